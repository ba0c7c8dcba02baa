package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
	"github.com/hakmem/hakmem/internal/testkit"
)

// small returns a workload's parameters at a size for tests: every loop goes through all of its
// parts, in milliseconds.
func small(w *Workload) loops.Params {
	p := w.Params
	for i := range ParamTable {
		t := &ParamTable[i]
		limit, ok := map[string]uint64{"ws": 60, "iters": 3001, "rounds": 3}[t.Name]
		if ok && w.Uses(t) {
			t.Set(&p, min(t.Get(&p), limit))
		}
	}
	if shrink := loops.About(w.Loop).Small; shrink != nil {
		shrink(&p)
	}
	return p
}

// tested lists the workloads that run by themselves, without a tape: those of the table that are not recorded, and
// growth.
func tested() []*Workload {
	list := []*Workload{&growthWorkload}
	for i := range Workloads {
		if !Workloads[i].Recorded {
			list = append(list, &Workloads[i])
		}
	}
	return list
}

// named returns the workload of that name.
func named(t *testing.T, name string) *Workload {
	t.Helper()
	w, err := FindWorkload(name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestMeasure runs every workload over every allocator, with more threads as well.
func TestMeasure(t *testing.T) {
	for _, w := range tested() {
		for _, name := range append(loops.Allocators(), loops.Empty) {
			for _, threads := range []int{1, 3} {
				t.Run(fmt.Sprintf("%s_%s_%d", w.Name, name, threads), func(t *testing.T) {
					if name == loops.Empty && threads > 1 && testkit.Race {
						t.Skip("-race: threads that hand on blocks hand on their only one")
					}
					p := small(w)
					p.Threads = threads
					r, err := Measure(Spec{Workload: w.Name, Allocator: name, Params: p})
					if err != nil {
						t.Fatal(err)
					}
					if r.Seconds <= 0 || r.OpsPerS <= 0 || r.NsPerOp <= 0 {
						t.Errorf("no time measured: %+v", r)
					}
					if runtime.GOOS == "linux" && (r.PeakRSS == 0 || r.PeakRSS < r.IdleRSS || r.End <= r.Begin) {
						t.Errorf("peak of %d bytes resident with %d before the loop, from %d to %d ns", r.PeakRSS, r.IdleRSS, r.Begin, r.End)
					}
				})
			}
		}
	}
}

// TestVerify runs every workload with its blocks filled and checked.
func TestVerify(t *testing.T) {
	for _, w := range tested() {
		for _, name := range loops.Allocators() {
			for _, threads := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s_%s_%d", w.Name, name, threads), func(t *testing.T) {
					p := small(w)
					p.Threads = threads
					r, err := Measure(Spec{Workload: w.Name, Allocator: name, Params: p, Observe: loops.ObserveVerify})
					if err != nil {
						t.Fatal(err)
					}
					if r.Observed.Verified == 0 {
						t.Error("no block was checked")
					}
				})
			}
		}
	}
}

// TestLaps: growth's laps come in their order in both languages, each with a time, and what hakmem says of
// itself fits the parameters.
func TestLaps(t *testing.T) {
	p := growthWorkload.Params
	p.WS, p.Iters, p.Threads = 20_000, 20_000, 2
	names := []string{loops.LapStart, loops.LapFill, loops.LapReplace, loops.LapTrimFull, loops.LapThin, loops.LapRest, loops.LapTrim}
	const rest = 30 * time.Millisecond
	check := func(t *testing.T, r result.Run) {
		t.Helper()
		var got []string
		for i, l := range r.Laps {
			got = append(got, l.Name)
			if (l.Seconds > 0) != (i > 0) || runtime.GOOS == "linux" && l.RSS == 0 {
				t.Errorf("lap %+v", l)
			}
		}
		if !slices.Equal(got, names) {
			t.Fatalf("laps %q, want %q", got, names)
		}
		if l := r.Lap(loops.LapRest); l.Seconds < rest.Seconds() {
			t.Errorf("the rest took %v s, want %v", l.Seconds, rest)
		}
		if runtime.GOOS == "linux" && r.Lap(loops.LapFill).MinorFaults == 0 {
			t.Error("no page faults while memory was filled")
		}
	}
	t.Run("go", func(t *testing.T) {
		r, err := Measure(Spec{Workload: GrowthWorkload, Allocator: "hakmem", Params: p, Linger: rest})
		if err != nil {
			t.Fatal(err)
		}
		check(t, r)
		for name, blocks := range map[string]uint64{loops.LapStart: 0, loops.LapReplace: 2 * p.WS, loops.LapTrim: 2 * (p.WS / 10)} {
			o := r.Lap(name).Own
			// the classes are at most a quarter larger than what was asked for
			if least := blocks * (p.Min + p.Max) / 2 * 9 / 10; o == nil || o.Live < least || o.Live > least*7/5 || o.Seconds <= 0 {
				t.Errorf("%s: %+v with %d blocks", name, o, blocks)
			}
		}
		if r.Lap("nothing") != nil {
			t.Error("a lap that does not exist")
		}
	})
	t.Run("c", func(t *testing.T) {
		var r result.Run
		runDriver(t, buildDriver(t), &r, append(growthWorkload.Args(p), "--linger", fmt.Sprint(rest.Milliseconds()))...)
		check(t, r)
	})
}

func TestLatency(t *testing.T) {
	w := named(t, "random_mixed")
	p := small(w)
	p.Iters = 100_000
	r, err := Measure(Spec{Workload: w.Name, Allocator: "hakmem", Params: p, Observe: loops.ObserveLatency})
	if err != nil {
		t.Fatal(err)
	}
	var samples uint64
	for _, pair := range r.Observed.Latency {
		samples += pair[1]
	}
	if expected := p.Iters / r.Observed.Every; samples < expected/2 || samples > 2*expected || len(r.Observed.Clock) == 0 {
		t.Errorf("%d samples of %d operations, clock %v", samples, p.Iters, r.Observed.Clock)
	}
}

// noOperations is the hash of no operations: where FNV-1a starts.
const noOperations = "cbf29ce484222325"

// TestTwins compares the operations of the two languages, thread by thread, in every workload.
func TestTwins(t *testing.T) {
	driver := buildDriver(t)
	for _, w := range tested() {
		for _, threads := range []int{1, 3} {
			for _, seed := range []uint32{1, 77} {
				t.Run(fmt.Sprintf("%s_%d_%d", w.Name, threads, seed), func(t *testing.T) {
					p := small(w)
					p.Threads = threads
					if p.Seed != 0 {
						p.Seed = seed
					}
					r, err := Measure(Spec{Workload: w.Name, Allocator: "hakmem", Params: p, Observe: loops.ObserveHash})
					if err != nil {
						t.Fatal(err)
					}
					var c result.Run
					runDriver(t, driver, &c, append(w.Args(p), "--observe", "hash")...)
					if len(r.Observed.Hashes) != threads || c.Observed == nil || !slices.Equal(r.Observed.Hashes, c.Observed.Hashes) {
						t.Errorf("%+v: hashes %v in Go, %+v in C", p, r.Observed.Hashes, c.Observed)
					}
					if slices.Contains(r.Observed.Hashes, noOperations) {
						t.Errorf("a thread without operations: %v", r.Observed.Hashes)
					}
				})
			}
		}
	}
}

// TestHash sees that a changed operation changes the hash.
func TestHash(t *testing.T) {
	hash := func(change func(*loops.Params)) string {
		w := named(t, "random_mixed")
		p := small(w)
		change(&p)
		r, err := Measure(Spec{Workload: w.Name, Allocator: "hakmem", Params: p, Observe: loops.ObserveHash})
		if err != nil {
			t.Fatal(err)
		}
		return r.Observed.Hashes[0]
	}
	plain := hash(func(*loops.Params) {})
	if again := hash(func(*loops.Params) {}); again != plain {
		t.Errorf("two runs have the hashes %s and %s", plain, again)
	}
	for _, change := range []func(*loops.Params){
		func(p *loops.Params) { p.Seed++ }, func(p *loops.Params) { p.Max++ }, func(p *loops.Params) { p.WS++ }, func(p *loops.Params) { p.Iters++ },
	} {
		if hash(change) == plain {
			t.Error("another sequence has the same hash")
		}
	}
}

func TestMeasureRefuses(t *testing.T) {
	w := named(t, "random_mixed")
	if _, err := Measure(Spec{Workload: w.Name, Allocator: "nobody", Params: w.Params}); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("an unknown allocator: %v", err)
	}
	if _, err := Measure(Spec{Workload: "sqlite", Allocator: "go", Params: named(t, "sqlite").Params}); err == nil || !strings.Contains(err.Error(), "Params.Tape") {
		t.Errorf("a recorded workload without a tape: %v", err)
	}
	if _, err := Measure(Spec{Workload: "nothing", Allocator: "go", Params: w.Params}); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("an unknown workload: %v", err)
	}
}

func TestValidate(t *testing.T) {
	mixed, _ := FindWorkload("random_mixed")
	hot, _ := FindWorkload("tiny_hot")
	json, _ := FindWorkload("json")
	recorded := named(t, "cache")
	for _, c := range []struct {
		w      *Workload
		name   string // of the parameter refused; "": none
		change func(*loops.Params)
	}{
		{mixed, "", func(*loops.Params) {}},
		{mixed, "", func(p *loops.Params) { p.Min, p.Max = 1, 1 }},
		{mixed, "min", func(p *loops.Params) { p.Min = 0 }},
		{mixed, "min", func(p *loops.Params) { p.Min = p.Max + 1 }},
		{mixed, "max", func(p *loops.Params) { p.Max = loops.MaxSize + 1 }},
		{mixed, "ws", func(p *loops.Params) { p.WS = 0 }},
		{mixed, "iters", func(p *loops.Params) { p.Iters = 0 }},
		{mixed, "threads", func(p *loops.Params) { p.Threads = 0 }},
		{mixed, "threads", func(p *loops.Params) { p.Threads = -1 }},
		{mixed, "seed", func(p *loops.Params) { p.Seed = 0 }},
		{mixed, "alive", func(p *loops.Params) { p.Alive = 3 }},
		{hot, "min", func(p *loops.Params) { p.Min, p.Max = 16, 32 }},
		{json, "", func(p *loops.Params) { p.Max = 4096 }},
		{json, "min", func(p *loops.Params) { p.Min = 4096 }},
		{recorded, "", func(p *loops.Params) { p.Rounds = 1 }},
		{recorded, "threads", func(p *loops.Params) { p.Threads++ }},
	} {
		p := c.w.Params
		c.change(&p)
		err := c.w.Validate(p)
		var bad *loops.ParamError
		if errors.As(err, &bad) != (c.name != "") || (bad != nil && bad.Name != c.name) {
			t.Errorf("%s %+v: %v, want a complaint about %q", c.w.Name, p, err, c.name)
		}
	}
	for i := range Workloads {
		w := &Workloads[i]
		if err := w.Validate(w.Params); err != nil {
			t.Errorf("%s refuses its own parameters: %v", w.Name, err)
		}
	}
}

func TestOps(t *testing.T) {
	mixed, _ := FindWorkload("random_mixed")
	hot, _ := FindWorkload("tiny_hot")
	p := loops.Params{Iters: 201, Threads: 2}
	if n := mixed.Ops(p); n != 402 {
		t.Errorf("random_mixed: %d operations, want 402", n)
	}
	if n := hot.Ops(p); n != 800 { // two whole batches of 200 each
		t.Errorf("tiny_hot: %d operations, want 800", n)
	}
}

func TestScale(t *testing.T) {
	w, _ := FindWorkload("random_mixed")
	p := w.Scale(w.Params, 0.25)
	if p.WS != w.Params.WS/4 || p.Iters != w.Params.Iters/4 || p.Max != w.Params.Max || p.Threads != w.Params.Threads {
		t.Errorf("a quarter of %+v is %+v", w.Params, p)
	}
	if p := w.Scale(w.Params, 1e-12); p.WS != 1 || p.Iters != 1 {
		t.Errorf("next to nothing of it is %+v", p)
	}
	recorded := named(t, "cache")
	if p := recorded.Scale(recorded.Params, 1e-12); p.Rounds != 1 || p.Threads != recorded.Params.Threads {
		t.Errorf("next to nothing of a recording is %+v", p)
	}
}

// driverDir is the directory of the C driver, or "" until a test needs the driver.
var driverDir string

// builtDriver builds the C driver in driverDir and returns what setup.sh prints.
var builtDriver = sync.OnceValues(func() (out []byte, err error) {
	if driverDir, err = os.MkdirTemp("", "hakmem-driver-"); err != nil {
		return nil, err
	}
	return exec.Command("sh", "native/setup.sh", "--build", driverDir).CombinedOutput()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if driverDir != "" {
		os.RemoveAll(driverDir)
	}
	os.Exit(code)
}

// buildDriver builds the C driver if no test did before, or skips the test where there is no gcc.
func buildDriver(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skipf("the C driver is for Linux, this is %s", runtime.GOOS)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc here: the C twin is not compared")
	}
	if out, err := builtDriver(); err != nil {
		t.Fatalf("setup.sh: %v\n%s", err, out)
	} else if len(out) > 0 {
		t.Errorf("the compiler warns:\n%s", out)
	}
	return filepath.Join(driverDir, "driver")
}

// runDriver runs the driver and decodes its output.
func runDriver(t *testing.T, driver string, r *result.Run, args ...string) {
	t.Helper()
	out, err := exec.Command(driver, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%v: %v: %s", args, err, exit.Stderr)
	}
	if err == nil {
		err = json.Unmarshal(out, r)
	}
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func TestDriverRuns(t *testing.T) {
	driver := buildDriver(t)
	for _, w := range tested() {
		p := small(w)
		for _, more := range [][]string{nil, {"--empty"}, {"--observe", "verify"}, {"--observe", "latency"}, {"--threads", "3"}} {
			var r result.Run
			runDriver(t, driver, &r, append(w.Args(p), more...)...)
			if r.Seconds <= 0 || r.PeakRSS == 0 || r.End <= r.Begin || r.Version == "" {
				t.Errorf("%s %v: %+v", w.Name, more, r)
			}
			if slices.Contains(more, "verify") && r.Observed.Verified == 0 || slices.Contains(more, "latency") && r.Observed.Every == 0 {
				t.Errorf("%s %v: observed %+v", w.Name, more, r.Observed)
			}
		}
	}
	for _, args := range []string{"", "nothing", "random_mixed --min", "random_mixed --ws 0", "random_mixed --min -1", "random_mixed --nope", "random_mixed --min 9 --max 8", "random_mixed --observe smell"} {
		var exit *exec.ExitError
		if err := exec.Command(driver, strings.Fields(args)...).Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%q: %v, want exit status 2", args, err)
		}
	}
}

// TestDriverEscapes: a path and a version may contain characters that JSON has to escape.
func TestDriverEscapes(t *testing.T) {
	driver := buildDriver(t)
	const source = `#include <stddef.h>
void *__libc_malloc(size_t);
void *malloc(size_t n) { return __libc_malloc(n); }
const char *tc_version(int *a, int *b, const char **c) { (void)a, (void)b, (void)c; return "a \"quoted\"\\\n\x01 version"; }
`
	dir := t.TempDir()
	file, library := filepath.Join(dir, "odd.c"), filepath.Join(dir, "an\"odd\"\\\tlibrary.so")
	if err := os.WriteFile(file, []byte(source), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-fno-builtin", "-o", library, file).CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	w := named(t, "random_mixed")
	c := exec.Command(driver, w.Args(small(w))...)
	c.Env = append(os.Environ(), "LD_PRELOAD="+library)
	out, err := c.Output()
	if err != nil {
		t.Skip("another C library: ", err) // without __libc_malloc
	}
	var r struct {
		Version string
		From    string `json:"malloc_from"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r.From != library || r.Version != "a \"quoted\"\\\n\x01 version" {
		t.Errorf("%+v, want %q", r, library)
	}
}
