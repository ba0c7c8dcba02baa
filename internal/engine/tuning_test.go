package engine

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
)

// tune publishes the tuning in force with a change, until the test ends.
func tune(t *testing.T, change func(*policy.Tuning)) {
	t.Helper()
	old := *policy.Now()
	tuned := old
	change(&tuned)
	if err := policy.SetTuning(&tuned); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := policy.SetTuning(&old); err != nil {
			t.Error(err)
		}
	})
}

// TestTunedKeep: free memory is kept for as long as the tuning in force says.
func TestTunedKeep(t *testing.T) {
	for _, test := range []struct {
		keep       policy.Keep
		decay      int
		kept, gone time.Duration // still there after kept, and returned gone later
	}{
		{policy.KeepNever, 2200, 0, 400 * time.Millisecond},
		{policy.KeepFor + 700, 2200, 600 * time.Millisecond, 500 * time.Millisecond},
		{policy.KeepFor + 10_000, 2200, 9900 * time.Millisecond, 500 * time.Millisecond},
		{policy.KeepFor + 700, 100, 600 * time.Millisecond, 500 * time.Millisecond}, // not in units of decay
		{policy.KeepAuto, 2200, time.Second, 7 * time.Second},
		{policy.KeepAuto, 220, 100 * time.Millisecond, 700 * time.Millisecond},
	} {
		c := withClock(t)
		tune(t, func(p *policy.Tuning) { p.Keep, p.DecayMs, p.HugeCacheBytes = test.keep, test.decay, 0 })
		freeBlocks(t, fillBytes(t, 64*mebibyte, 4*mebibyte))
		c.Advance(test.kept)
		if _, dirty := use(); dirty < 60*16 && test.kept > 0 {
			t.Errorf("%+v: %d pages are dirty after %v", test, dirty, test.kept)
		}
		c.Advance(test.gone)
		if _, dirty := use(); dirty > 0 {
			t.Errorf("%+v: %d pages are dirty %v later", test, dirty, test.gone)
		}
	}
}

// TestTunedPrice: the dearer memory is, the sooner it is returned.
func TestTunedPrice(t *testing.T) {
	last := time.Duration(1 << 62)
	for _, price := range []int{10, 100, 1000, 100_000} {
		withClock(t)
		tune(t, func(p *policy.Tuning) { p.MemoryPrice = price })
		region.mu.Lock()
		learnKept(milliseconds())
		hold := meanHold()
		region.mu.Unlock()
		if hold >= last {
			t.Errorf("with a price of %g memory is kept for %v, with a lower one for %v", float64(price)/1000, hold, last)
		}
		last = hold
	}
}

// TestSoftLimitPrice: the nearer memory comes to the soft limit, the sooner free pages are returned.
func TestSoftLimitPrice(t *testing.T) {
	withClock(t)
	hold := func(share float64) time.Duration {
		withLimit(t, uint64(float64(counted.Load())/share), 0)
		region.mu.Lock()
		defer region.mu.Unlock()
		learnKept(milliseconds())
		return meanHold()
	}
	blocks := fillBytes(t, 64*mebibyte, 4*mebibyte)
	far := hold(0.4)
	if now := hold(0.5); now != far {
		t.Errorf("at half of the limit pages are kept for %v, below that for %v", now, far)
	}
	last := far
	for _, share := range []float64{0.6, 0.7, 0.8, 0.87} {
		now := hold(share)
		if now >= last {
			t.Errorf("at %g of the soft limit pages are kept for %v, below that for %v", share, now, last)
		}
		last = now
	}
	if last > far/20 {
		t.Errorf("just below 7/8 of the limit pages are kept for %v, far away for %v", last, far)
	}
	noLimit(t)
	region.mu.Lock()
	learnKept(milliseconds())
	if now := meanHold(); now != far {
		t.Errorf("without the limit pages are kept for %v, before it for %v", now, far)
	}
	region.mu.Unlock()
	freeBlocks(t, blocks)
}

// TestTunedCommitStep: commits follow other limits of the step, and double between them.
func TestTunedCommitStep(t *testing.T) {
	withClock(t)
	for _, test := range []struct {
		min, max int
		want     []mem.Bytes // MiB
	}{
		{2, 64, []mem.Bytes{2, 4, 8}},
		{16, 32, []mem.Bytes{16, 32, 32}}, // after a step of 8, which is too small now
		{4, 8, []mem.Bytes{8}},            // after one of 32
	} {
		tune(t, func(p *policy.Tuning) { p.CommitMin, p.CommitMax = test.min<<20, test.max<<20 })
		for i, want := range test.want {
			region.mu.Lock()
			if i == 0 && test.min == 2 {
				region.step = 0 // as at the first commit
			}
			old := region.committed.Load()
			err := grow(mebibyte)
			got := mem.Bytes(region.committed.Load() - old)
			region.mu.Unlock()
			if err != nil || got != want*mebibyte {
				t.Errorf("steps of %d to %d MiB, commit %d: %d bytes (%v), want %d MiB", test.min, test.max, i+1, got, err, want)
			}
		}
	}
}
