package bench

import (
	"embed"
	"fmt"

	"github.com/hakmem/hakmem/bench/trace"
)

// The workloads that repeat what a program did: their recordings, by the name of the workload. The command
// bench/programs makes them.

//go:embed recorded/*.gz
var recordings embed.FS

// Tape returns the operations of a workload that is Recorded. It is an error if the workload is not. Whoever runs
// the workload saves the tape to a file, and gives Measure and the C driver its name in Params.Tape.
func (w *Workload) Tape() (*trace.Tape, error) { return w.compile(trace.CompileOptions{}) }

func (w *Workload) compile(o trace.CompileOptions) (*trace.Tape, error) {
	if !w.Recorded {
		return nil, fmt.Errorf("%s has no recording: run it without a tape", w.Name)
	}
	name := "recorded/" + w.Name + ".gz"
	f, err := recordings.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := trace.NewReader(name, f)
	if err != nil {
		return nil, err
	}
	return trace.Compile(r, o)
}
