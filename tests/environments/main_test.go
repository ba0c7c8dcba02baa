// Package environments tests hakmem where programs really run: under service sandboxes and limits,
// with unusual settings of the system, in every build mode. docs/environments.md has the table.
package environments_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
