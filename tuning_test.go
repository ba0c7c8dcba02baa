package hakmem_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

var _ = testkit.Child("tunings swapped", tuningsSwapped)

// randomTuning returns a tuning of which each value is an end of its range, or is between.
func randomTuning(r *rand.Rand) *policy.Tuning {
	values := map[string]string{}
	for _, g := range policy.All() {
		switch g.Kind {
		case policy.Number:
			few := min(g.Max, g.Min+1+r.Int64N(200))
			values[g.Name] = strconv.FormatInt([]int64{g.Min, g.Max, few, g.Min + r.Int64N(g.Max-g.Min+1)}[r.IntN(4)], 10)
		case policy.Decimal:
			values[g.Name] = fmt.Sprint(float64(g.Min+r.Int64N(g.Max-g.Min+1)) / 1000)
		case policy.Switch:
			values[g.Name] = strconv.Itoa(r.IntN(2))
		case policy.Choice:
			values[g.Name] = g.Choices[r.IntN(len(g.Choices))]
		}
	}
	// What Build has to mend (a CommitMax below CommitMin) it mends.
	s, _ := policy.Build(func(name string) (string, bool) { v, ok := values[name]; return v, ok })
	return &s.Tuning
}

// leastSwaps is how many tunings are published at least while goroutines allocate: enough for
// each pair of values of two settings to come up.
const leastSwaps = 200

// tuningsSwapped publishes tunings without a pause while goroutines allocate, the scavenger runs,
// and fronts are drained.
func tuningsSwapped(seed string) error {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	hakmem.Free(hakmem.Malloc(1)) // the fixed part is fixed from here on
	fixed := policy.AtStart()
	stop := make(chan bool)
	swapped := make(chan error)
	var swaps atomic.Int64
	go func() {
		r := rand.New(rand.NewPCG(n, 7))
		for {
			select {
			case <-stop:
				swapped <- nil
				return
			default:
			}
			t := randomTuning(r)
			if err := policy.SetTuning(t); err != nil {
				swaps.Store(leastSwaps)
				swapped <- err
				return
			}
			if swaps.Add(1)%50 == 0 {
				hakmem.Trim()
			}
			runtime.Gosched()
		}
	}()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for g := range errs {
		wg.Go(func() {
			for round := uint64(0); errs[g] == nil && (round < 2 || swaps.Load() < leastSwaps); round++ {
				failed, err := workout.Work(n*100+round*10+uint64(g), 16<<20, 1)
				if failed != 0 {
					err = errors.Join(err, fmt.Errorf("allocation failed: %w", hakmem.Err()))
				}
				errs[g] = err
			}
		})
	}
	wg.Wait()
	close(stop)
	if err := errors.Join(append(errs, <-swapped)...); err != nil {
		return err
	}
	if policy.AtStart() != fixed {
		return errors.New("the fixed part was replaced")
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	return workout.NothingLost()
}

// TestTuningsSwapped: tunings may be swapped at any time.
func TestTuningsSwapped(t *testing.T) {
	for seed, settings := range [][]string{nil, {"HAKMEM_FAST_SECTION=0"}, {"HAKMEM_HARDEN=1"}, nil} {
		t.Logf("seed %d, %v", seed, settings)
		testkit.InChild(t, "tunings swapped", strconv.Itoa(seed), settings...)
	}
}
