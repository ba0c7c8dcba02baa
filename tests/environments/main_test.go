// Package environments tests hakmem in the surroundings that programs run in: limits, sandboxes,
// emulators, settings of the system. docs/environments.md is the table of them. Each case runs in a
// process of its own.
package environments_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

const mib = 1 << 20

// together is how many of the tests that call t.Parallel run at the same time. All of them mostly wait for a
// timer of their case: the ten cases of a test then take as long as one or two, and one processor is enough.
const together = "10"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", together); err != nil { // go test -parallel overrides it
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testkit.Main(m)
}
