// Package loops runs the loops of the workloads, each over several allocators, in the calling
// process.
//
// A loop is a sequence of allocations and frees that follows from its parameters alone;
// bench/native/loops.h is its twin in C. It is written once, in loops.go, where it calls any
// allocator through an observer, which hashes, verifies or samples the operations. For every
// allocator there is a copy in loops_*_gen.go, so that what is timed is a direct call of that
// allocator. The copy "empty" calls none: its time is what the others are compared net of.
package loops

//go:generate go run ./gen

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/bench/result"
)

// A Spec names one run of one loop.
type Spec struct {
	Loop, Allocator string
	Params          Params      // Params are parameters that the loop can use: Info.Check
	Observe         Observation // "": nothing
	// Linger is for how long Run waits after everything was freed, before it looks at the process's
	// memory once more. 0: it does not look again. A loop that rests does so for the same time.
	Linger time.Duration
}

// Run runs a loop over an allocator and returns what was measured.
func Run(s Spec) (result.Run, error) {
	p, about := s.Params, About(s.Loop)
	a, err := find(s.Allocator, p.Threads > 1 || about.pairs)
	if err != nil {
		return result.Run{}, err
	}
	common := &shared{barrier: newBarrier(p.Threads), linger: s.Linger, trim: a.trim, laps: laps{own: a.own}}
	common.gate.looked = make(chan struct{})
	if about.prepare != nil {
		if err := about.prepare(&p, common); err != nil {
			return result.Run{}, err
		}
		debug.FreeOSMemory() // the loop must not use what the preparation left behind
	}
	loops := a.loops
	if s.Observe != "" {
		if a.calls == nil {
			return result.Run{}, fmt.Errorf("the loop %q allocates nothing that could be observed", a.name)
		}
		loops = loopsObserved
	}
	loop := loops[s.Loop]

	scratch := p.Max
	if about.scratch != nil {
		scratch = about.scratch(p)
	}
	var check *checker
	if s.Observe == ObserveVerify {
		check = newChecker()
	}
	g := &common.gate
	g.ready.Add(p.Threads)
	g.finished.Add(p.Threads)
	var done sync.WaitGroup
	workers := make([]*worker, p.Threads)
	for i := range workers {
		w := &worker{id: i, p: p, seed: p.threadSeed(i), shared: common}
		w.partner = &worker{id: i, p: p, seed: w.seed, shared: common}
		if a.name == Empty { // a buffer for each worker: a shared one would bounce between caches
			own := make([]byte, scratch+2*64)
			clear(own) // the loop must not be the first to touch its pages
			w.scratch = unsafe.Pointer(unsafe.SliceData(own))
			w.partner.scratch = w.scratch
		}
		if s.Observe != "" {
			w.obs = newObserver(a.calls(), s.Observe, p.threadSeed(i), check)
			w.partner.obs = newObserver(a.calls(), s.Observe, p.threadSeed(i), check)
		}
		workers[i] = w
		done.Go(func() { loop(w) })
	}
	g.ready.Wait()
	before := usage()
	if common.idleRSS == 0 {
		before = idleUsage()
	}
	begin := mark(markBegin)
	g.open.Store(true)
	g.finished.Wait()
	stop := mark(markEnd)
	after := usage()
	close(g.looked)
	done.Wait()
	end := usage()
	for _, w := range workers {
		w.obs.close()
		w.partner.obs.close()
	}

	first, last := workers[0].start, workers[0].stop
	for _, w := range workers[1:] {
		if w.start.Before(first) {
			first = w.start
		}
		if w.stop.After(last) {
			last = w.stop
		}
	}
	r := result.Run{
		Seconds: max(last.Sub(first).Seconds(), 1e-9), // a coarse clock may say 0
		// Linux notes a peak only now and then, so the values seen count as well.
		PeakRSS: max(common.idleRSS, before.rss, before.peak, after.peak, end.peak), IdleRSS: cmp.Or(common.idleRSS, before.rss), EndRSS: end.rss,
		MinorFaults: after.faults - before.faults,
		Begin:       begin, End: stop,
		Version: a.version(),
	}
	r.OpsPerS = float64(about.Ops(p)) / r.Seconds
	if common.tape != nil {
		r.OpsPerS = float64(common.tape.timed(p.Rounds)) / r.Seconds
	}
	r.NsPerOp = 1e9 / r.OpsPerS
	r.Laps = common.laps.list
	if s.Observe != "" {
		if r.Observed, err = observed(workers, s.Observe, check); err != nil {
			return r, err
		}
	}
	runtime.KeepAlive(workers)
	if s.Linger > 0 {
		time.Sleep(s.Linger)
		r.LaterRSS = usage().rss
	}
	return r, nil
}
