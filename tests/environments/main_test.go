// Package environments tests hakmem in the surroundings that programs run in: limits, sandboxes,
// emulators, settings of the system. docs/environments.md is the table of them. Each case runs in a
// process of its own.
package environments_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

const mib = 1 << 20

func TestMain(m *testing.M) { testkit.Main(m) }
