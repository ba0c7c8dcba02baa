// Package measure runs one variant of a comparison in a process of its own and measures what it takes: time,
// processor time of the garbage collector, and resident memory while it works and after its end.
package measure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Setting says which variant to run, and how.
type Setting struct {
	Comparison string
	Variant    string
	Goroutines int
	Scale      float64       // the share of the full size; 1 is the full size
	Later      time.Duration // from the close to the look at what is still resident
	Dir        string        // where Program.Prepare has put its files
	Prepare    bool          // only prepare
}

// Of returns the share of full that the scale says, and 1 at least.
func (s Setting) Of(full int) int { return max(int(float64(full)*s.Scale), 1) }

// Program is what a process can run.
type Program struct {
	// Prepare makes files in Setting.Dir that all variants read. It runs once for a comparison, in a process of
	// its own. nil: there is nothing to make.
	Prepare func(Setting) error
	// Start makes a variant ready. What it allocates counts as resident before the work.
	Start func(Setting) (Job, error)
}

// Job is a variant that is ready to run. Its functions are called in the order of the fields; those that are nil
// are left out.
type Job struct {
	Warm   func() error       // counts for memory, not for time
	Work   func(*Meter) error // is measured
	NextTo func(*Meter) error // runs while what Work has made is there; only its own figures count
	Close  func(*Meter) error // gives back what Work has made; Setting.Later begins at its end
	After  func(*Meter) error // may report figures of what comes after
}

// Result is what a process prints, in JSON. Bytes are those beyond what was resident before Job.Warm.
type Result struct {
	Seconds     float64       // of Job.Work
	CPUKnown    bool          // whether the system says how much processor time the process has taken
	CPUSeconds  float64       // of processor time for Job.Work, in all threads
	P999        time.Duration // of one operation, if Operations is not 0
	Operations  uint64        // of which the time was taken
	GCSeconds   float64       // of processor time, from the beginning to the end of Job.Work
	Collections uint64        // in that time
	MemoryKnown bool          // whether the system says how much is resident
	Peak        int64         // bytes, up to the end of Job.Work
	Left        int64         // bytes, Setting.Later after Job.Close
	AfterFree   int64         // bytes, Setting.Later after the debug.FreeOSMemory that follows
	Sum         uint64        // of all answers: it must be the same in all variants
	Figures     []Figure      // what else there is to know
	Versions    map[string]string
}

// Figure is a number of one comparison only.
type Figure struct {
	Name  string
	Unit  string // "s", "ms", "ns", "MiB", "%", "/s" or "" for a count
	Value float64
}

// Meter collects what a Job finds out. Any goroutine may call its methods.
type Meter struct {
	start int64 // bytes resident before the work
	later time.Duration

	mu      sync.Mutex
	latency Histogram
	sum     uint64
	figures []Figure
}

// AddLatency adds the times of single operations.
func (m *Meter) AddLatency(h *Histogram) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latency.Add(h)
}

// AddSum adds to the sum of all answers.
func (m *Meter) AddSum(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum += n
}

// Figure reports a number of this comparison.
func (m *Meter) Figure(name, unit string, value float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.figures = append(m.figures, Figure{Name: name, Unit: unit, Value: value})
}

// Phase reports how long f takes, in seconds.
func (m *Meter) Phase(name string, f func() error) error {
	began := time.Now()
	err := f()
	m.Figure(name, "s", time.Since(began).Seconds())
	return err
}

// Left waits for Setting.Later and reports how much is resident then, beyond what was before the work.
func (m *Meter) Left(name string) {
	time.Sleep(m.later)
	if now, _, known := resident(); known {
		m.Figure(name, "MiB", float64(now-m.start)/(1<<20))
	}
}

// Resident reports how much is resident now, beyond what was before the work.
func (m *Meter) Resident(name string) {
	if now, _, known := resident(); known {
		m.Figure(name, "MiB", float64(now-m.start)/(1<<20))
	}
}

// Run runs a job and measures it.
func Run(j Job, s Setting) (r Result, err error) {
	runtime.GC()
	resetPeak()
	m := &Meter{later: s.Later}
	m.start, _, r.MemoryKnown = resident()
	if j.Warm != nil {
		if err := j.Warm(); err != nil {
			return r, err
		}
		runtime.GC()
	}
	before := readCollector()
	began := time.Now()
	cpu, _ := processor()
	if err := j.Work(m); err != nil {
		return r, err
	}
	r.Seconds = time.Since(began).Seconds()
	used, known := processor()
	r.CPUKnown, r.CPUSeconds = known, (used - cpu).Seconds()
	after := readCollector()
	r.GCSeconds, r.Collections = after.seconds-before.seconds, after.cycles-before.cycles
	_, peak, _ := resident()
	r.Peak = max(peak-m.start, 0)
	for _, f := range []func(*Meter) error{j.NextTo, j.Close} {
		if f != nil {
			if err := f(m); err != nil {
				return r, err
			}
		}
	}
	time.Sleep(s.Later)
	now, _, _ := resident()
	r.Left = now - m.start
	debug.FreeOSMemory()
	time.Sleep(s.Later)
	now, _, _ = resident()
	r.AfterFree = now - m.start
	if j.After != nil {
		if err := j.After(m); err != nil {
			return r, err
		}
	}
	r.Operations = m.latency.n
	r.P999 = m.latency.Quantile(0.999)
	r.Sum, r.Figures, r.Versions = m.sum, m.figures, versions()
	return r, nil
}

// Main is main of a program that the command compare builds and starts.
func Main(p Program) {
	if err := start(p, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// start is Main, except that it returns the error.
func start(p Program, args []string, stdout io.Writer) error {
	if len(args) != 1 {
		return errors.New("this program is started by the command compare: go run ./adapters/compare")
	}
	var s Setting
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return fmt.Errorf("the setting %q: %w", args[0], err)
	}
	if s.Prepare {
		if p.Prepare == nil {
			return fmt.Errorf("comparison %q has nothing to prepare", s.Comparison)
		}
		return p.Prepare(s)
	}
	j, err := p.Start(s)
	if err != nil {
		return err
	}
	r, err := Run(j, s)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(r)
}

// UnknownVariant is the error of Program.Start for a setting that it does not know.
func UnknownVariant(s Setting) error {
	return fmt.Errorf("comparison %q has no variant %q", s.Comparison, s.Variant)
}

// Replaced says whether this program was built with another module in the place of the one at path.
func Replaced(path string) bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, d := range info.Deps {
		if d.Path == path {
			return d.Replace != nil
		}
	}
	return false
}

// versions returns the versions of the modules that this program was built with. Those of a directory are not in it.
func versions() map[string]string {
	v := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Replace == nil && d.Version != "(devel)" {
				v[d.Path] = d.Version
			}
		}
	}
	return v
}

// Together runs f in so many goroutines, each with its number, and returns their errors.
func Together(goroutines int, f func(g int) error) error {
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() { errs[g] = f(g) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
