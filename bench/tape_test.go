package bench

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/trace"
)

// recorded is a trace with every operation and two threads that free each
// other's blocks; block 5 and thread 0's block 1 stay alive.
const recorded = `hakmem trace 1
a 0 1 100
a 1 2 70000
z 1 3 64
g 0 4 1000 256
f 1 1
r 0 2 90000 2
f 0 3
a 0 1 8
a 1 5 0
r 1 6 20 2
f 0 6
f 1 4
`

// tapes writes the tapes of the tests and returns their parameters: of a
// distribution, with one thread and two, and of the trace.
func tapes(t *testing.T) map[string]Params {
	t.Helper()
	dir := t.TempDir()
	list := map[string]Params{}
	add := func(name string, tape *trace.Tape, err error) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err == nil {
			err = tape.Save(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		list[name] = Params{Rounds: 3, Threads: tape.Threads, Tape: path}
	}
	web, err := trace.Builtin("web")
	if err != nil {
		t.Fatal(err)
	}
	for name, threads := range map[string]int{"web1": 1, "web2": 2} {
		tape, err := web.Tape(trace.TapeOptions{Ops: 2000, LiveBytes: 4 << 20, Threads: threads, Seed: 3})
		add(name, tape, err)
	}
	for name, threads := range map[string]int{"trace": 0, "trace1": 1} {
		r, err := trace.NewReader("recorded", strings.NewReader(recorded))
		if err != nil {
			t.Fatal(err)
		}
		tape, err := trace.Compile(r, trace.CompileOptions{Threads: threads})
		add(name, tape, err)
	}
	return list
}

// TestTapes runs the tapes over everything, plain and observed, and compares
// the two languages.
func TestTapes(t *testing.T) {
	for name, p := range tapes(t) {
		for _, a := range append(Allocators(), Empty) {
			for _, what := range []Observation{"", ObserveVerify, ObserveLatency} {
				if a == Empty && (what != "" || raceOn && p.Threads > 1) {
					continue // under -race: as in TestMeasure
				}
				r, err := Measure(Spec{Workload: TapeWorkload, Allocator: a, Params: p, Observe: what})
				if err != nil {
					t.Errorf("%s over %s, observed for %q: %v", name, a, what, err)
				} else if r.OpsPerS <= 0 {
					t.Errorf("%s over %s: no time: %+v", name, a, r)
				}
			}
		}
	}
}

func TestTapeTwins(t *testing.T) {
	driver := buildDriver(t)
	w, _ := FindWorkload(TapeWorkload)
	for name, p := range tapes(t) {
		r, err := Measure(Spec{Workload: TapeWorkload, Allocator: "hakmem", Params: p, Observe: ObserveHash})
		if err != nil {
			t.Fatal(err)
		}
		for _, more := range [][]string{{"--observe", "hash"}, {"--observe", "verify"}, {"--empty"}, nil} {
			var c Run
			runDriver(t, driver, &c, append(w.Args(p), more...)...)
			if slices.Contains(more, "hash") && !slices.Equal(c.Observed.Hashes, r.Observed.Hashes) {
				t.Errorf("%s: hashes %v in Go, %v in C", name, r.Observed.Hashes, c.Observed.Hashes)
			}
		}
	}
}

// TestTapeOps counts by hand: 12 operations a round, of which 2 blocks are
// left, freed after each round but the last.
func TestTapeOps(t *testing.T) {
	p := tapes(t)["trace1"]
	var s shared
	if err := loadTape(&p, &s); err != nil {
		t.Fatal(err)
	}
	if n := s.tape.timed(3); n != 3*12+2*2 {
		t.Errorf("%d operations, want 40", n)
	}
	if p.Max != 90000 || !slices.Equal(s.tape.olds[0], []uint64{70000, 90000}) {
		t.Errorf("largest %d, sizes before reallocs %v", p.Max, s.tape.olds)
	}
}
