package refused_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Commits and discards that are refused.

var _ = testkit.Child("commit refused once", commitRefusedOnce)

func commitRefusedOnce(arg string) error {
	nth, _ := strconv.Atoi(arg)
	refused := false
	testkit.RefuseOp(osmem.OpCommit, func(n int) bool { refused = refused || n == nth; return n == nth })
	// Only NewHeap may report this by a panic.
	if err := workout.Tolerate(func() error { _, err := workout.Work(1, 96<<20, 100); return err }); err != nil {
		return err
	}
	if !refused {
		return fmt.Errorf("the work made fewer than %d commit calls", nth)
	}
	if nth <= 3 { // of the metadata of a region, in whose place another one serves
		osmem.Inject(nil)
		return workout.NothingLost()
	}
	if err := reported(); err != nil {
		return err
	}
	return workout.NothingLost()
}

var _ = testkit.Child("commit refused from", commitRefusedFrom)

// commitRefusedFrom runs in a system that has no memory from the n-th commit on. Memory that is
// already committed can be used and reused. Then the system has memory again.
func commitRefusedFrom(arg string) error {
	nth, _ := strconv.Atoi(arg)
	testkit.RefuseOp(osmem.OpCommit, func(n int) bool { return n >= nth })
	for seed := range uint64(3) {
		err := workout.Tolerate(func() error {
			n, err := workout.Work(seed, 1<<30, 2000)
			if err == nil && n != 2000 {
				err = errors.New("a gigabyte was granted without commits")
			}
			return err
		})
		if err != nil {
			return err
		}
		if s := workout.ReadStats(); s.Live != 0 {
			return fmt.Errorf("live %d bytes", s.Live)
		}
	}
	if err := reported(); err != nil {
		return err
	}
	if err := workout.ComesBack(); err != nil { // n = 1 refused even the region's metadata
		return err
	}
	return workout.NothingLost()
}

var _ = testkit.Child("commit refused at random", commitRefusedAtRandom)

func commitRefusedAtRandom(arg string) error {
	seed, _ := strconv.ParseUint(arg, 10, 64)
	r := rand.New(rand.NewPCG(seed, 2))
	odds := []uint{2, 3, 10}[seed%3]
	testkit.RefuseOp(osmem.OpCommit, func(int) bool { return r.UintN(odds) == 0 })
	if err := workout.Together(4, func(g uint64) error { _, err := workout.Work(seed*10+g, 48<<20, 5000); return err }); err != nil {
		return err
	}
	osmem.Inject(nil)
	return workout.NothingLost()
}

func TestCommitRefused(t *testing.T) {
	most, seeds := 40, 6
	if testing.Short() || testkit.Race { // the cases have at most four goroutines
		most, seeds = 6, 3
	}
	for n := 1; n <= most; n++ {
		testkit.InChild(t, "commit refused once", strconv.Itoa(n), smallSteps...)
		if n <= 6 || n%20 == 0 {
			testkit.InChild(t, "commit refused from", strconv.Itoa(n), smallSteps...)
		}
	}
	for seed := range seeds {
		testkit.InChild(t, "commit refused at random", strconv.Itoa(seed), smallSteps...)
	}
}

var _ = testkit.Child("decommit refused", decommitRefused)

// decommitRefused checks that Trim survives a system that keeps the memory, and that Calloc still
// zeroes the memory which could not be returned.
func decommitRefused(string) error {
	testkit.RefuseOp(osmem.OpDiscard, func(n int) bool { return n%2 == 1 })
	for seed := range uint64(4) {
		if n, err := workout.Work(seed, 32<<20, 1); n != 0 || err != nil {
			return fmt.Errorf("%d failures: %w", n, err)
		}
		hakmem.Trim()
	}
	if err := reported(); err != nil {
		return err
	}
	return workout.NothingLost()
}

func TestDecommitRefused(t *testing.T) { testkit.InChild(t, "decommit refused", "") }
