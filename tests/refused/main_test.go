// Package refused tests hakmem while the operating system refuses it memory: commits,
// discards, reservations, whichever call it is, once, from some moment on, or at random.
// Each case runs in a process of its own.
package refused_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// smallSteps makes every superslab a commit of its own, so that there are many
// to refuse.
var smallSteps = []string{"HAKMEM_COMMIT_MIN=2097152", "HAKMEM_COMMIT_MAX=2097152"}

// quick makes the scavenger work a hundred times as often, and the region ask for
// huge pages and commit in small steps, for as many kinds of calls as there are.
var quick = append([]string{"HAKMEM_DECAY_MS=20", "HAKMEM_THP=always"}, smallSteps...)

// reported wants Err and Stats.Errors to report an injected failure.
func reported() error {
	// The scavenger's goroutine may have met the failure and not yet recorded it.
	err := hakmem.Err()
	for end := time.Now().Add(5 * time.Second); !errors.Is(err, osmem.ErrInjected) && time.Now().Before(end); err = hakmem.Err() {
		time.Sleep(time.Millisecond)
	}
	if !errors.Is(err, osmem.ErrInjected) {
		return fmt.Errorf("Err() = %v, want it to tell of the injected failure", err)
	}
	if s := workout.ReadStats(); len(s.Errors) == 0 || s.SystemCalls.Failed == 0 {
		return fmt.Errorf("Stats: %d errors, %d failed calls", len(s.Errors), s.SystemCalls.Failed)
	}
	return nil
}
