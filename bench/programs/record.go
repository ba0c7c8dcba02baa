package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench/trace"
)

// recorder records the calls that a program makes, turn by turn. It belongs to one goroutine.
type recorder struct {
	events []trace.Event
	blocks numbering
}

// turn records the calls that do makes, as those of a thread, counted from 0. The threads of a program take
// turns in one goroutine, because real ones would come in another order each time.
func (r *recorder) turn(thread uint32, do func() error) error {
	var lines bytes.Buffer
	if err := hakmem.StartTrace(&lines); err != nil {
		return err
	}
	if err := errors.Join(do(), hakmem.StopTrace()); err != nil {
		return err
	}
	in, err := trace.NewReader("the trace of a turn", &lines)
	if err != nil {
		return err
	}
	for {
		e, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			e, err = r.blocks.rename(e)
		}
		if err != nil {
			return err
		}
		e.Thread = thread
		r.events = append(r.events, e)
	}
}

// numbering gives the live blocks of a trace small numbers, from 1. A block gets the number that became free
// last. So a recording does not depend on where blocks lie, and packs well.
type numbering struct {
	live map[uint64]uint64 // the numbers, by the ID in the trace
	idle []uint64          // numbers that are free again
}

// rename returns the event with numbers for IDs. It is an error if the event is about a block that is not live.
func (n *numbering) rename(e trace.Event) (trace.Event, error) {
	if n.live == nil {
		n.live = map[uint64]uint64{}
	}
	id := e.ID
	switch e.Kind {
	case trace.Realloc, trace.Free:
		old := e.Old
		if e.Kind == trace.Free {
			old = id
		}
		number := n.live[old]
		if number == 0 {
			return e, fmt.Errorf("%s:%d: a %v of block %x, which no turn allocated: move its allocation into a turn", "the trace of a turn", e.Line, e.Kind, old)
		}
		delete(n.live, old)
		e.ID = number
		if e.Kind == trace.Free {
			n.idle = append(n.idle, number)
			return e, nil
		}
		e.Old = number
	default:
		if last := len(n.idle) - 1; last >= 0 {
			e.ID, n.idle = n.idle[last], n.idle[:last]
		} else {
			e.ID = uint64(len(n.live)) + 1 // all numbers up to that are in use
		}
	}
	n.live[id] = e.ID
	return e, nil
}

// record runs a program and returns the events of its calls.
func record(p program) ([]trace.Event, error) {
	// One P and no collection: the order of calls is then the program's. With several Ps, and with cleanups,
	// it would depend on the time.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var r recorder
	if err := p.run(&r); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	if len(r.events) == 0 {
		return nil, fmt.Errorf("%s: %w", p.name, errNoCall)
	}
	return r.events, nil
}

// errNoCall is the error of record when the program did not use hakmem.
var errNoCall = errors.New("it made no call of hakmem: this build has modernc.org/memory itself; leave -child out, and the command makes one that has not")

// writeRecording records a program and writes the recording, packed.
func writeRecording(w io.Writer, p program) error {
	events, err := record(p)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := writeEvents(z, events); err != nil {
		return err
	}
	return z.Close()
}

// writeEvents writes the text of a recording.
func writeEvents(w io.Writer, events []trace.Event) error {
	out := trace.NewWriter(w)
	for _, e := range events {
		if err := out.Write(e); err != nil {
			return err
		}
	}
	return out.Flush()
}
