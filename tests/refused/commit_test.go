package refused_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
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
	if v := testkit.PanicOf(func() { _, err := workout.Work(1, 96<<20, 100); workout.FailIf(err) }); v != nil {
		// Only NewHeap may report this by a panic.
		if _, ok := v.(*hakmem.OutOfMemoryError); !ok {
			return fmt.Errorf("panic: %v", v)
		}
	}
	if !refused {
		return fmt.Errorf("the work made fewer than %d commit calls", nth)
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
		v := testkit.PanicOf(func() {
			n, err := workout.Work(seed, 1<<30, 2000)
			workout.FailIf(err)
			if n != 2000 {
				panic("a gigabyte was granted without commits")
			}
		})
		if _, ok := v.(*hakmem.OutOfMemoryError); v != nil && !ok {
			return fmt.Errorf("panic: %v", v)
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
	var wg sync.WaitGroup
	errs := make(chan any, 4)
	for g := range uint64(4) {
		wg.Go(func() {
			errs <- testkit.PanicOf(func() { _, err := workout.Work(seed*10+g, 48<<20, 5000); workout.FailIf(err) })
		})
	}
	wg.Wait()
	for range 4 {
		v := <-errs
		if _, ok := v.(*hakmem.OutOfMemoryError); v != nil && !ok {
			return fmt.Errorf("panic: %v", v)
		}
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
