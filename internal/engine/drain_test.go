package engine

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

// spin burns time without a safe point: nosplit code has none.
//
//go:nosplit
//go:noinline
func spin(n int, started *atomic.Bool) (x uint64) {
	started.Store(true)
	for i := range n {
		x = x*6364136223846793005 + uint64(i)
	}
	return x
}

// TestGraceWaits: grace must not return while a pinned section or a nosplit section still runs that
// was running when grace was called. Go does not promise that, so it is checked for each version.
func TestGraceWaits(t *testing.T) {
	if !canPin {
		t.Skip("skipped: without pinning fronts are behind locks and need no grace")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	const steps = 20_000_000 // some 20 ms: longer than any grace without a section
	sections := map[string]func(started, ended *atomic.Bool){
		"pinned": func(started, ended *atomic.Bool) {
			procPin()
			spin(steps, started)
			ended.Store(true)
			procUnpin()
		},
		"nosplit": func(started, ended *atomic.Bool) { nosplitSection(steps, started, ended) },
	}
	if testkit.Race {
		t.Log("skipped: the nosplit section, into which -race puts calls; such builds pin")
		delete(sections, "nosplit")
	}
	for name, section := range sections {
		// The section must have been running five times when grace was called. The look before the
		// call is the control: it shows that waiting was needed.
		running := 0
		for try := 0; running < 5 && try < 100; try++ {
			var started, ended atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() { section(&started, &ended) })
			for !started.Load() {
				runtime.Gosched()
			}
			drainMu.Lock()
			early := ended.Load()
			grace()
			drainMu.Unlock()
			if !ended.Load() {
				t.Errorf("%s: grace returned while the section was running", name)
			}
			wg.Wait()
			if !early {
				running++
			}
		}
		if running < 5 {
			t.Errorf("%s: only %d times was a section running when grace was called: this test shows nothing any more", name, running)
		}
	}
}

//go:nosplit
//go:noinline
func nosplitSection(n int, started, ended *atomic.Bool) {
	spin(n, started)
	ended.Store(true)
}
