// Package storm tests hakmem while allocations fail by the hundred thousand, and the
// normal work that follows. Each case runs in a process of its own.
package storm_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
