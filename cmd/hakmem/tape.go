package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/trace"
)

// makeTape writes the tape of a job whose workload needs one, and sets the job's parameters to it.
// The returned function removes the file.
func (j *job) makeTape(dist string) (clean func(), err error) {
	var tape *trace.Tape
	switch {
	case j.workload.Recorded:
		tape, err = j.workload.Tape()
	case j.workload.Name == bench.DistWorkload:
		tape, err = j.distTape(dist)
	default:
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	return j.useTape(tape)
}

// distTape makes the tape of a distribution.
func (j *job) distTape(dist string) (*trace.Tape, error) {
	d, err := readDistribution(dist)
	if err != nil {
		return nil, err
	}
	tape, err := d.Tape(trace.TapeOptions{
		Ops: int(j.params.Iters), LiveBytes: j.params.WS << 20, Threads: j.params.Threads, Seed: uint64(j.params.Seed),
	})
	if err != nil {
		return nil, fmt.Errorf("--dist %s: %w", dist, err)
	}
	return tape, nil
}

// useTape writes the tape to a temporary file.
func (j *job) useTape(tape *trace.Tape) (clean func(), err error) {
	dir, err := os.MkdirTemp("", "hakmem-tape-")
	if err != nil {
		return nil, err
	}
	clean = func() { os.RemoveAll(dir) }
	j.params.Tape = filepath.Join(dir, "tape")
	j.params.Threads = tape.Threads
	j.tapeOps = loops.TapeOps(tape, j.params.Rounds)
	if err = tape.Save(j.params.Tape); err != nil {
		clean()
		return nil, err
	}
	return clean, nil
}

func readDistribution(name string) (trace.Distribution, error) {
	if filepath.Ext(name) == "" {
		if d, err := trace.Builtin(name); err == nil {
			return d, nil
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return trace.Distribution{}, usagef("--dist %q: use web, or the path of a CSV file of size,rate,live rows: %w", name, err)
	}
	defer f.Close()
	return trace.ReadDistribution(f, name)
}

// ops returns the number of operations of a run.
func (j job) ops() uint64 {
	if j.tapeOps > 0 {
		return j.tapeOps
	}
	return j.workload.Ops(j.params)
}
