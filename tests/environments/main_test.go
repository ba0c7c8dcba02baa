// Package environments tests hakmem where programs run: in sandboxes, with locked memory, in
// containers. Each case runs in a process of its own.
package environments_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
