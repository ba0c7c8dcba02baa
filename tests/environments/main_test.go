// Package environments tests hakmem where programs really run: in containers, under limits, and with
// the settings of the system that they find there. Each case runs in a process of its own.
package environments_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
