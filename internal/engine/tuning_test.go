package engine

import (
	"testing"

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

// TestTunedWindow: the window follows another default window at the next tick.
func TestTunedWindow(t *testing.T) {
	withClock(t)
	for _, test := range []struct {
		decay, want millis
	}{{100, 140}, {100_000, 10_000}} { // between a tenth of it and 1.4 times of it
		tune(t, func(p *policy.Tuning) { p.DecayMs = int(test.decay) })
		scavenger.mu.Lock()
		scavenger.look()
		got := scavenger.window
		scavenger.mu.Unlock()
		if got != test.want {
			t.Errorf("default window %d ms: the window is %d ms, want %d", test.decay, got, test.want)
		}
	}
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
