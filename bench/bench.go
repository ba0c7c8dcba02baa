// Package bench holds the workloads that hakmem is measured with, and runs them over several
// allocators in the calling process.
//
// A workload is a loop of package bench/loops with parameters. Its outcome is a run of package
// bench/result, which also has the arithmetic from runs to ratios.
//
// Measure belongs into a process of its own: peak memory, page faults and the state of the garbage
// collector are the process's.
package bench

import (
	"fmt"
	"time"

	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// A Spec names one measurement.
type Spec struct {
	Workload, Allocator string
	Params              loops.Params
	// Observe says what is to be observed apart from the time of the whole run. The time then
	// includes the cost of observing.
	Observe loops.Observation
	// Linger is for how long the process stays idle after everything was freed, before it looks at
	// its memory once more (result.Run.LaterRSS). 0: not at all. A loop that rests does so for the same
	// time.
	Linger time.Duration
}

// Measure runs one workload over one allocator and returns what was measured. Call it once in a
// process, except for verification (ObserveVerify), which leaves nothing of hakmem's behind.
func Measure(s Spec) (result.Run, error) {
	workload, err := FindWorkload(s.Workload)
	if err != nil {
		return result.Run{}, err
	}
	if err := workload.Validate(s.Params); err != nil {
		return result.Run{}, err
	}
	if workload.Recorded && s.Params.Tape == "" {
		return result.Run{}, fmt.Errorf("%s: Params.Tape is empty: save Workload.Tape to a file and name it there", workload.Name)
	}
	r, err := loops.Run(loops.Spec{
		Loop: workload.Loop, Allocator: s.Allocator, Params: s.Params, Observe: s.Observe, Linger: s.Linger,
	})
	if err != nil {
		err = fmt.Errorf("%s over %s: %w", s.Workload, s.Allocator, err)
	}
	return r, err
}
