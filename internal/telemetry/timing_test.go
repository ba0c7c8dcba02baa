package telemetry

import (
	"math"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// reset gives a test fresh totals and turns the timing off.
func reset(t *testing.T) {
	clean := func() {
		SetTiming(false)
		for p := range totals {
			totals[p].cycles.Store(0)
			totals[p].max.Store(0)
			for i := range totals[p].buckets {
				totals[p].buckets[i].Store(0)
			}
		}
	}
	clean()
	t.Cleanup(clean)
}

func readAll() (all [NumPhases]Timing) {
	ReadTiming(&all)
	return all
}

func TestPhaseString(t *testing.T) {
	for p, want := range map[Phase]string{
		Refill: "refill", Flush: "flush", Acquire: "acquire", Retire: "retire", LargeTake: "large take", LargeGive: "large give",
		Commit: "commit", Drain: "drain", Sweep: "sweep", Purge: "purge", NumPhases: "unknown", 255: "unknown",
	} {
		if got := p.String(); got != want {
			t.Errorf("phase %d is %q, want %q", p, got, want)
		}
	}
}

func TestOff(t *testing.T) {
	reset(t)
	b := Begin()
	End(Refill, b)
	if b != 0 || readAll() != [NumPhases]Timing{} {
		t.Errorf("while off, Begin = %d and the totals are %v", b, readAll())
	}
	SetTiming(true)
	if b = Begin(); b == 0 {
		t.Fatal("while on, Begin = 0")
	}
	SetTiming(false)
	End(Purge, b)
	for p, got := range readAll() {
		if want := uint64(p) / uint64(Purge); got.Count != want {
			t.Errorf("%v was counted %d times, want %d", Phase(p), got.Count, want)
		}
	}
}

func TestRecord(t *testing.T) {
	for _, c := range []struct {
		name    string
		times   []uint64
		want    Timing
		buckets map[int]uint64
	}{
		{"none", nil, Timing{}, nil},
		{"zero", []uint64{0}, Timing{1, 0, 0}, map[int]uint64{0: 1}},
		{"edges of buckets", []uint64{1, 2, 3, 4, 7, 8}, Timing{6, 25, 8}, map[int]uint64{1: 1, 2: 2, 3: 2, 4: 1}},
		{"longest first", []uint64{100, 5}, Timing{2, 105, 100}, map[int]uint64{7: 1, 3: 1}},
		{"longer than the last bucket", []uint64{1 << 29, 1 << 30, 1 << 40}, Timing{3, 1<<29 + 1<<30 + 1<<40, 1 << 40}, map[int]uint64{30: 1, 31: 2}},
		{"counter behind", []uint64{math.MaxUint64 - 5, 9}, Timing{2, 9, 9}, map[int]uint64{0: 1, 4: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			reset(t)
			for _, n := range c.times {
				record(Commit, n)
				record(NumPhases, n) // not a phase: nothing happens
			}
			want := [NumPhases]Timing{Commit: c.want}
			if got := readAll(); got != want {
				t.Errorf("totals %v, want %v", got, want)
			}
			var hist, wantHist [Buckets]uint64
			for i, n := range c.buckets {
				wantHist[i] = n
			}
			if ReadHistogram(Commit, &hist); hist != wantHist {
				t.Errorf("histogram %v, want %v", hist, wantHist)
			}
			if ReadHistogram(NumPhases, &hist); hist != [Buckets]uint64{} {
				t.Errorf("histogram of no phase %v", hist)
			}
		})
	}
}

// TestConcurrent checks that no count is lost, and that Begin and End measure the time between
// them.
func TestConcurrent(t *testing.T) {
	reset(t)
	SetTiming(true)
	const goroutines, each = 8, 2000
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range uint64(each) {
				record(Sweep, uint64(g)*each+i)
				End(Drain, Begin())
			}
		})
	}
	wg.Wait()
	const n = goroutines * each
	all := readAll()
	if want := (Timing{n, n * (n - 1) / 2, n - 1}); all[Sweep] != want {
		t.Errorf("totals %v, want %v", all[Sweep], want)
	}
	if d := all[Drain]; d.Count != n || d.MaxCycles > d.Cycles {
		t.Errorf("%d times and %d ticks, the longest %d; want %d times", d.Count, d.Cycles, d.MaxCycles, n)
	}
}

// TestHz compares a time in ticks, converted, with the clock. The work in between is a
// loop, because the counter must run while the processor does.
func TestHz(t *testing.T) {
	reset(t)
	SetTiming(true)
	const long = 20 * time.Millisecond
	// The clock is read on both sides of Begin and of End, so that a preemption between them widens
	// the bounds instead of failing the test.
	t0, b, t1 := now(), Begin(), now()
	for now()-t1 < long {
	}
	t2 := now()
	End(Acquire, b)
	t3 := now()
	hz := Hz()
	got := time.Duration(float64(readAll()[Acquire].Cycles) / hz * 1e9)
	const off = long / 100 // more than the error that Hz promises
	if least, most := t2-t1-off, t3-t0+off; got < least || got > most {
		t.Errorf("%v to %v measured as %v, at %.0f %s in a second", least, most, got, hz, Unit)
	}
}

// TestHzUnset checks that Hz is 0 before there is a starting point to measure from.
func TestHzUnset(t *testing.T) {
	defer func(i instant, set bool) { origin.instant, origin.set = i, set }(origin.instant, origin.set)
	origin.set = false
	if hz := Hz(); hz != 0 {
		t.Errorf("Hz = %v before the first use", hz)
	}
}

func TestNoAllocation(t *testing.T) {
	reset(t)
	SetTiming(true)
	var all [NumPhases]Timing
	if n := testing.AllocsPerRun(100, func() {
		End(Flush, Begin())
		ReadTiming(&all)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestInlines checks with the compiler that Begin and End are inlined: a call in every slow path
// would be too expensive for something that is off.
func TestInlines(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("skipped: no go command: ", err)
	}
	out, err := exec.Command(goTool, "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"can inline Begin\n", "can inline End\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the compiler does not say %q", want)
		}
	}
}

func BenchmarkOff(b *testing.B) {
	SetTiming(false)
	for b.Loop() {
		End(Refill, Begin())
	}
}

func BenchmarkOn(b *testing.B) {
	SetTiming(true)
	defer SetTiming(false)
	for b.Loop() {
		End(Refill, Begin())
	}
}
