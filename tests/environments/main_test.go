// Package environments tests hakmem where programs really run: in bubbles of testing/synctest, with
// instruments, and where what hakmem takes is scarce. Each case runs in a process of its own.
package environments_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
