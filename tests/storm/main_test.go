// Package storm tests hakmem while hundreds of thousands of allocations fail, and the normal work
// that follows. Each case runs in a process of its own.
package storm_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
