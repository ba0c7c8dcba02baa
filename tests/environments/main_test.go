// Package environments tests hakmem where programs really run. Each case runs in a process of its
// own; what a machine cannot show is skipped by name, with the reason.
package environments_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
