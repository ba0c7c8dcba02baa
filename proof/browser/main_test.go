package browser

import (
	"fmt"
	"os"
	"testing"

	"github.com/hakmem/hakmem"
)

// TestMain has the slow paths timed, or the page has no stalls to show.
func TestMain(m *testing.M) {
	if err := hakmem.Configure(hakmem.Options{Timing: hakmem.ToggleOn}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
