package refused_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Refusals of one or some memory calls of the operating system, with calls of all kinds numbered
// together.

var _ = testkit.Child("any call refused once", anyCallRefusedOnce)

// anyCallRefusedOnce refuses the calls that arg numbers.
func anyCallRefusedOnce(arg string) error {
	nth, _ := strconv.Atoi(arg)
	var reached atomic.Bool // the number of calls depends on how long they take
	n := 0                  // of the calls of all places
	calls := testkit.RefuseAt(here, func(testkit.Call) bool {
		if n++; n == nth {
			reached.Store(true)
		}
		return n == nth
	})
	for i := range 10 {
		if err := workout.Churn(uint64(nth + i)); err != nil {
			return err
		}
		if reached.Load() || nth > 48 {
			break
		}
	}
	osmem.Inject(nil)
	switch {
	case reached.Load():
		if err := reportedOf(calls); err != nil {
			return err
		}
	case nth <= 48:
		return fmt.Errorf("there was no call %d", nth)
	default:
		fmt.Println(testkit.NotReached)
	}
	return workout.NothingLost()
}

var _ = testkit.Child("any call refused at random", anyCallRefusedAtRandom)

func anyCallRefusedAtRandom(arg string) error {
	seed, _ := strconv.ParseUint(arg, 10, 64)
	r := rand.New(rand.NewPCG(seed, 3))
	odds := []uint{2, 5, 30}[seed%3]
	testkit.Refuse(func(testkit.Call) bool { return r.UintN(odds) == 0 })
	for i := range uint64(3) {
		if err := workout.Churn(seed + i); err != nil {
			return err
		}
	}
	osmem.Inject(nil)
	if err := workout.ComesBack(); err != nil {
		return err
	}
	return workout.NothingLost()
}

// TestAnyCallRefused checks that, whichever one or more memory calls of the system fail, no block
// is lost, no lock stays held, and the next attempt can succeed.
func TestAnyCallRefused(t *testing.T) {
	step, seeds := 1, 9
	if testing.Short() || testkit.Race {
		step, seeds = 12, 3
	}
	for n := 1; n <= 48; n += step {
		testkit.InChild(t, "any call refused once", strconv.Itoa(n), quick...)
	}
	for n := 52; n <= 800 && !t.Failed(); n += 4 * step { // until there are no more calls
		if !testkit.InChild(t, "any call refused once", strconv.Itoa(n), quick...) {
			t.Logf("call %d was not made", n)
			break
		}
	}
	for seed := range seeds {
		testkit.InChild(t, "any call refused at random", strconv.Itoa(seed), quick...)
	}
}
