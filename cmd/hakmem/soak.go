package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/internal/osmem"
)

// A round is one workload over one of soakAllocators. Its number of operations is a random power of
// two within these bounds, so that rounds differ, and it fills and checks at most soakBytes. A
// round then takes some milliseconds to some seconds.
const (
	soakLeastOps, soakMostOps = 1 << 14, 1 << 20
	soakBytes                 = 2 << 30
)

var soakAllocators = []string{"hakmem", "hakmem-heap"}

// These bound how far resident memory may drift from that of the first line. After Trim nothing is
// alive, but some memory may have been added since the first line:
//
//   - hakmem has page metadata and bitmaps of pages that were not committed then: 1 % of their
//     memory (docs/design.md, section 6).
//   - Go has stacks, span tables and spare threads. They move by some MiB from line to line. 16 MiB
//     is four times the most that was seen in runs of some minutes.
const (
	soakSlack        = 16 << 20
	soakMetadataPart = 100
)

func soakVerb() *cli.Command {
	return &cli.Command{
		Name: "soak", Usage: "run all workloads over hakmem for a long time, checking everything",
		Description: "Runs the workloads of `bench` in rotation, through the global functions and through Heaps, with\n" +
			"every block filled and checked. At least once in each --every, after a quarter of --for if that is\n" +
			"sooner, and at the end, it waits for the round to end, checks hakmem's invariants before and after a\n" +
			"Trim, and prints a line of JSON, two lines at least. The first thing that is wrong ends it with\n" +
			"status 1: a damaged block, memory still alive, a broken invariant, a late double free, or resident\n" +
			"memory that has drifted from the first line's by more than 16 MiB and 1 % of what was committed\n" +
			"since (not judged in builds with -race, -asan or -msan, whose shadow memory it would be). What makes\n" +
			"hakmem panic in a workload ends it at once, with status 2 and Go's stacks. HAKMEM_* settings apply.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Value: "1m", Usage: "how long; the last round is finished, and two at least"},
			&cli.StringFlag{Name: "every", Value: "1m", Usage: "`time` between two lines"},
			&cli.StringFlag{Name: "seed", Value: "1", Usage: "start of the random sequence"},
			&cli.StringFlag{Name: "threads", Value: "2", Usage: "threads of each workload"},
		},
		OnUsageError: badFlags,
		Action: func(ctx context.Context, c *cli.Command) error {
			if err := errors.Join(noArguments(c), checkSettings()); err != nil {
				return err
			}
			total, err := readTime(c, "for")
			if err != nil {
				return err
			}
			every, err := readTime(c, "every")
			if err != nil {
				return err
			}
			seed, err := readNumber(c, "seed", math.MaxUint32)
			if err != nil {
				return err
			}
			threads, err := readNumber(c, "threads", loops.MaxThreads)
			if err != nil {
				return err
			}
			s := &soak{out: c.Root().Writer, rng: rand.New(rand.NewPCG(seed, 0)), threads: int(threads), begin: time.Now(), done: map[string]bool{}}
			return s.run(ctx, total, every)
		},
	}
}

// soak is one run of the verb.
type soak struct {
	out     io.Writer
	rng     *rand.Rand
	threads int
	begin   time.Time

	rounds   uint64
	verified uint64
	done     map[string]bool   // names of workloads
	tapes    map[string]string // files of the recorded workloads, by name
	lines    int
	firstRSS uint64
	first    hakmem.Stats // at the first line
}

// soakLine is the contents of a line. Bytes and counts are those of the process after Trim.
type soakLine struct {
	Time      time.Time `json:"time"`
	Seconds   float64   `json:"seconds"` // since the beginning
	Rounds    uint64    `json:"rounds"`
	Verified  uint64    `json:"verified"` // blocks checked so far
	Workloads []string  `json:"workloads"`
	RSS       uint64    `json:"rss_bytes"`
	Live      uint64    `json:"live_bytes"` // hakmem's blocks
	Drift     int64     `json:"rss_drift_bytes"`
	DriftMost int64     `json:"rss_drift_limit_bytes,omitempty"` // not in builds with a detector
	GoHeap    uint64    `json:"go_heap_bytes"`
	Faults    uint64    `json:"page_faults"` // minor faults so far
	Misuse    uint64    `json:"misuse"`      // late double frees so far
	// Invariants is "ok" or the findings of CheckInvariants.
	Invariants string `json:"invariants"`
	// Errors are the failures that hakmem has survived so far, refused system calls for example.
	Errors []string `json:"errors,omitempty"`
}

func (s *soak) run(ctx context.Context, total, every time.Duration) error {
	// The drift is counted from the first line. It comes after a quarter of the time, which leaves
	// most of the time for the drift.
	next := min(every, total/4)
	clean, err := s.makeTapes()
	defer clean()
	if err != nil {
		return err
	}
	for {
		for i := range bench.Workloads {
			for _, allocator := range soakAllocators {
				if err := s.round(&bench.Workloads[i], allocator); err != nil {
					return err
				}
				passed := time.Since(s.begin)
				if passed >= next || passed >= total || ctx.Err() != nil {
					if err := s.line(); err != nil {
						return err
					}
					next = passed - passed%every + every
				}
				switch {
				case ctx.Err() != nil:
					return errInterrupted
				case passed >= total && s.lines > 1: // with one line only there would be no drift
					return nil
				}
			}
		}
	}
}

// makeTapes writes the tapes of the recorded workloads. The returned function removes the files.
func (s *soak) makeTapes() (clean func(), err error) {
	s.tapes = map[string]string{}
	var cleans []func()
	clean = func() {
		for _, f := range cleans {
			f()
		}
	}
	for i := range bench.Workloads {
		j := job{workload: &bench.Workloads[i], params: bench.Workloads[i].Params}
		if !j.workload.Recorded {
			continue
		}
		f, err := j.makeTape("")
		if err != nil {
			return clean, err
		}
		cleans = append(cleans, f)
		s.tapes[j.workload.Name] = j.params.Tape
	}
	return clean, nil
}

// round runs one workload and checks its blocks.
func (s *soak) round(w *bench.Workload, allocator string) error {
	p := soakParams(w, float64(soakLeastOps)*math.Pow(float64(soakMostOps)/soakLeastOps, s.rng.Float64()), s.threads)
	if p.Seed != 0 {
		p.Seed = 1 + s.rng.Uint32N(math.MaxUint32)
	}
	p.Tape = s.tapes[w.Name]
	r, err := bench.Measure(bench.Spec{Workload: w.Name, Allocator: allocator, Params: p, Observe: loops.ObserveVerify})
	if err != nil {
		return fmt.Errorf("round %d, %v: %w", s.rounds+1, w.Args(p), errors.Join(err, hakmem.CheckInvariants()))
	}
	s.rounds++
	s.verified += r.Observed.Verified
	s.done[w.Name] = true
	return nil
}

// soakParams adjusts a workload's parameters to about ops operations. A recording is run once, whatever it has.
func soakParams(w *bench.Workload, ops float64, threads int) loops.Params {
	p := w.Params
	if w.Recorded {
		p.Rounds = 1
		return p
	}
	p.Threads = threads
	if mean := float64(cmp.Or(p.Min, p.Max)+p.Max) / 2; mean > 0 {
		ops = min(ops, soakBytes/mean)
	}
	p = w.Scale(p, min(1, ops/float64(w.Ops(p))))
	// Try a smaller working set, which helps only where the number of operations follows from it.
	q := p
	q.WS = w.Params.WS
	if w.Ops(q) == w.Ops(p) && w.Validate(q) == nil {
		return q
	}
	return p
}

// line checks everything and prints a line. It is called between two rounds.
func (s *soak) line() error {
	broken := hakmem.CheckInvariants() // while magazines and caches are full
	if err := trim(); err != nil {
		return err
	}
	broken = errors.Join(broken, hakmem.CheckInvariants())
	// Give back the memory that the verification used, too, so that the rest can be compared.
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var now hakmem.Stats
	hakmem.ReadStats(&now)
	l := soakLine{
		Time: time.Now().UTC(), Seconds: time.Since(s.begin).Seconds(), Rounds: s.rounds, Verified: s.verified,
		Live: now.Live, GoHeap: m.HeapAlloc, Misuse: now.LateDoubleFrees, Invariants: "ok",
	}
	rss, known := osmem.ResidentBytes()
	l.RSS = rss
	l.Faults, _ = osmem.ProcessFaults()
	for _, err := range now.Errors {
		l.Errors = append(l.Errors, err.Error())
	}
	for name := range s.done {
		l.Workloads = append(l.Workloads, name)
	}
	slices.Sort(l.Workloads)
	if s.lines++; s.lines == 1 {
		s.firstRSS, s.first = rss, now
	}
	l.Drift = int64(rss) - int64(s.firstRSS)
	if !shadowed {
		l.DriftMost = soakSlack + int64(now.Committed-s.first.Committed)/soakMetadataPart
	}
	if broken != nil {
		l.Invariants = broken.Error()
	}
	if err := json.NewEncoder(s.out).Encode(l); err != nil {
		return err
	}
	switch {
	case broken != nil:
		return broken
	case l.Live != 0:
		return fmt.Errorf("%d bytes in %d blocks are alive after everything was freed", now.Live, now.LiveBlocks)
	case l.Misuse != 0:
		return fmt.Errorf("%d late double frees: the workloads make none", l.Misuse)
	case known && !shadowed && l.Drift > l.DriftMost:
		return fmt.Errorf("resident memory has drifted by %d bytes from the first line's %d, and may by %d", l.Drift, s.firstRSS, l.DriftMost)
	}
	return nil
}

// trim calls hakmem.Trim and returns the misuse with which it panics.
func trim() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("while trimming: %v", v)
		}
	}()
	hakmem.Trim()
	return nil
}
