package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
	"unsafe"

	"github.com/hakmem/hakmem"
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
			var c result.Run
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

// TestVerifyFinds gives the checker allocators with one fault each.
func TestVerifyFinds(t *testing.T) {
	sound := func() calls {
		for _, a := range allocators {
			if a.name == "hakmem" {
				return a.calls()
			}
		}
		panic("no hakmem")
	}
	for _, c := range []struct {
		want  string // "": there is no fault
		spoil func(*calls)
	}{
		{"", func(*calls) {}},
		{"byte 0 of the block", func(a *calls) {
			a.realloc = func(p unsafe.Pointer, _, more uintptr) unsafe.Pointer { // a new block
				hakmem.Free(p)
				q := hakmem.Malloc(more)
				clear(unsafe.Slice((*byte)(q), more))
				return q
			}
		}},
		{"was lost when", func(a *calls) {
			a.realloc = func(p unsafe.Pointer, size, more uintptr) unsafe.Pointer { // forgets the last byte
				q := hakmem.Realloc(p, more)
				*(*byte)(unsafe.Add(q, min(size, more)-1)) ^= 1
				return q
			}
		}},
		{"is not aligned to 2097152", func(a *calls) {
			a.memalign = func(align, size uintptr) unsafe.Pointer { // of two blocks of 48 bytes, one that is not
				p, q := hakmem.Malloc(size), hakmem.Malloc(size)
				if uintptr(p)%align == 0 {
					p, q = q, p
				}
				hakmem.Free(q)
				return p
			}
		}},
	} {
		a := sound()
		c.spoil(&a)
		check := newChecker()
		o := newObserver(a, ObserveVerify, 1, check)
		for _, sizes := range [][2]uintptr{{13, 100_000}, {100_000, 21}, {8, 8}, {5, 3}} {
			p := o.malloc(sizes[0], 0)
			o.free(o.realloc(p, sizes[0], sizes[1], 0), 0)
		}
		o.free(o.memalign(2*mib, 48, 0), 0)
		switch err := check.failed; {
		case c.want == "" && err != nil:
			t.Errorf("found %v where nothing is wrong", err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("found %v, want %q", err, c.want)
		}
	}
}

// faulty is a library to preload, whose realloc forgets and whose aligned
// blocks are not.
const faulty = `
#include <stdint.h>
#include <stdlib.h>
#ifdef FORGETS
void *realloc(void *p, size_t n) {
	void *q = calloc(1, n); /* before the free: elsewhere */
	free(p);
	return q;
}
#else
int posix_memalign(void **p, size_t align, size_t n) {
	do
		*p = malloc(n); /* what happens to be aligned stays behind */
	while ((uintptr_t)*p % align == 0);
	return 0;
}
#endif
`

// TestDriverVerifyFinds preloads it.
func TestDriverVerifyFinds(t *testing.T) {
	driver := buildDriver(t)
	w, err := FindWorkload(TapeWorkload)
	if err != nil {
		t.Fatal(err)
	}
	args := append(w.Args(tapes(t)["trace1"]), "--observe", "verify")
	source := filepath.Join(t.TempDir(), "faulty.c")
	if err := os.WriteFile(source, []byte(faulty), 0o666); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{"-DFORGETS": "lost when it was reallocated", "-DMISALIGNS": "not aligned"} {
		library := filepath.Join(t.TempDir(), "faulty.so")
		if out, err := exec.Command("gcc", "-shared", "-fPIC", "-fno-builtin", flag, "-o", library, source).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c := exec.Command(driver, args...)
		c.Env = append(os.Environ(), "LD_PRELOAD="+library)
		if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s; want a failure with %q", flag, err, out, want)
		}
	}
}
