// Package environments tests hakmem in the environments in which programs run: as other settings of
// the system, limits and sandboxes make them. Each case runs in a process of its own. A case that
// the machine cannot show is skipped by name, with the reason.
package environments_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
