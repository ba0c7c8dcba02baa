// Package refused tests hakmem while the operating system refuses it memory. Commits, discards,
// reservations and every other memory call are refused: once, from some moment on, or at random.
// Each case runs in a process of its own.
package refused_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// smallSteps makes every superslab a commit of its own, so that there are many commits to refuse.
var smallSteps = []string{"HAKMEM_COMMIT_MIN=2097152", "HAKMEM_COMMIT_MAX=2097152"}

// quick makes as many kinds of system calls happen as there are. The scavenger works a hundred
// times as often, and the region asks for huge pages and is committed in small steps.
var quick = append([]string{"HAKMEM_DECAY_MS=20", "HAKMEM_THP=always"}, smallSteps...)

// reported ends the refusals and checks that Err and Stats.Errors report one. Nothing else may be
// going on.
func reported() error {
	osmem.Inject(nil)
	// It waits for a tick of the scavenger that is still at work and may have met the failure. Unlike
	// Trim, it leaves everything as the refusals left it.
	if err := hakmem.CheckInvariants(); err != nil {
		return err
	}
	if err := hakmem.Err(); !errors.Is(err, osmem.ErrInjected) {
		return fmt.Errorf("Err() = %v, want it to tell of the injected failure", err)
	}
	if s := workout.ReadStats(); len(s.Errors) == 0 || s.SystemCalls.Failed == 0 {
		return fmt.Errorf("Stats: %d errors, %d failed calls", len(s.Errors), s.SystemCalls.Failed)
	}
	return nil
}

// reportedOf is reported, if a call was refused that Err is to tell of.
func reportedOf(calls *testkit.Refusals) error {
	if len(calls.Counting()) > 0 {
		return reported()
	}
	osmem.Inject(nil)
	return hakmem.CheckInvariants()
}

// here returns the place in hakmem that called osmem, for testkit.RefuseAt.
func here() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasPrefix(f.Function, "github.com/hakmem/hakmem/internal/engine.") {
			return filepath.Base(f.File) + ":" + strconv.Itoa(f.Line)
		}
		if !more {
			return "elsewhere"
		}
	}
}
