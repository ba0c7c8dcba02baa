package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
	"github.com/hakmem/hakmem/bench/trace"
	"github.com/hakmem/hakmem/internal/testkit"
)

// recorded is a trace with every operation and two threads that free each other's blocks. Block 5
// and thread 0's block 1 stay alive.
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

// tapes writes the tapes of the tests and returns their parameters: tapes of a distribution, with
// one thread and with two, of the trace, and of the beginning of each recorded workload.
func tapes(t *testing.T) map[string]loops.Params {
	t.Helper()
	dir := t.TempDir()
	list := map[string]loops.Params{}
	add := func(name string, tape *trace.Tape, err error) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err == nil {
			err = tape.Save(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		list[name] = loops.Params{Rounds: 3, Threads: tape.Threads, Tape: path}
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
	for i := range Workloads {
		if w := &Workloads[i]; w.Recorded {
			tape, err := w.compile(trace.CompileOptions{MaxOps: 1000, MaxSize: 64 << 10})
			add(w.Name, tape, err)
		}
	}
	return list
}

// TestTapes runs the tapes over everything, plain and observed, and compares the two languages.
func TestTapes(t *testing.T) {
	for name, p := range tapes(t) {
		for _, a := range append(loops.Allocators(), loops.Empty) {
			for _, what := range []loops.Observation{"", loops.ObserveVerify, loops.ObserveLatency} {
				if a == loops.Empty && (what != "" || testkit.Race && p.Threads > 1) {
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
		r, err := Measure(Spec{Workload: TapeWorkload, Allocator: "hakmem", Params: p, Observe: loops.ObserveHash})
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

// faulty is a library to preload. Its realloc forgets the contents, and its aligned blocks are not
// aligned.
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

// TestDriverVerifyFinds preloads faulty.
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
