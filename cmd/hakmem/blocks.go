package main

import (
	"fmt"
	"io"
	"math/bits"
	"time"

	"github.com/hakmem/hakmem/bench/trace"
	"github.com/hakmem/hakmem/internal/learn/sim"
)

// readTraceDemand returns the demand of a trace with times. Blocks of 64 KiB and more have pages of their
// own; smaller ones share pages with others of about their size, as in slabs.
func readTraceDemand(name string, r *trace.Reader) (*sim.Placed, error) {
	d := traceDemand{program: sim.Program{Name: name}, blocks: map[uint64]tracedBlock{}}
	last, line := time.Duration(0), 0 // of the event before
	for {
		e, err := r.Next()
		if err != nil && err != io.EOF {
			return nil, err
		}
		if r.At() < last || r.At() > maxDemandTime {
			return nil, fmt.Errorf("%s: after line %d: the time %d: use times from the one before, %d, to %d ms", name, line, r.At().Milliseconds(), last.Milliseconds(), maxDemandTime.Milliseconds())
		}
		last, line = r.At(), e.Line
		if err == io.EOF {
			break
		}
		if e.Size > maxDemandPages*tracedPage {
			return nil, fmt.Errorf("%s:%d: a block of %d bytes: use a trace with blocks of at most %d", name, e.Line, e.Size, uint64(maxDemandPages*tracedPage))
		}
		d.add(e, last)
		if d.use > maxDemandPages {
			return nil, fmt.Errorf("%s:%d: %d pages of 64 KiB are in use: use a trace with at most %d", name, e.Line, d.use, maxDemandPages)
		}
	}
	if last == 0 {
		return nil, fmt.Errorf("%s: the trace does not say when calls took place: record it with `hakmem record --times`", name)
	}
	d.program.Length = last
	return sim.Place(&d.program), nil
}

// tracedPage is the size of the simulator's pages in bytes.
const tracedPage = 64 << 10

// traceDemand makes a program of the simulator's out of a trace's events.
type traceDemand struct {
	program sim.Program
	blocks  map[uint64]tracedBlock // live, by ID
	use     int                    // pages
	open    [17][]*tracedSlab      // slabs with room, by class; the last one is filled first
}

// tracedBlock is where a block is: in a slab, or on pages of its own.
type tracedBlock struct {
	slab *tracedSlab // nil: it has pages of its own
	own  takenPages
}

// takenPages are pages that a block of the program has.
type takenPages struct{ block, pages int }

// tracedSlab is a page with blocks of up to 2^class bytes.
type tracedSlab struct {
	class  int
	live   int
	listed bool // in open
	own    takenPages
}

// add adds an event. Oddities are treated as docs/traces.md says for tapes.
func (d *traceDemand) add(e trace.Event, at time.Duration) {
	switch e.Kind {
	case trace.ThreadDone:
		return
	case trace.Free:
		d.free(e.ID, at)
		return
	case trace.Realloc:
		if e.ID == 0 && e.Size > 0 { // it failed
			return
		}
		d.free(e.Old, at)
	}
	if e.ID == 0 {
		return
	}
	d.free(e.ID, at) // its free is missing
	size := max(e.Size, 1)
	if size >= tracedPage {
		d.blocks[e.ID] = tracedBlock{own: d.take(int((size+tracedPage-1)/tracedPage), at)}
		return
	}
	class := bits.Len64(max(size, 16) - 1)
	list := d.open[class]
	var s *tracedSlab
	if n := len(list); n > 0 {
		s = list[n-1]
	} else {
		s = &tracedSlab{class: class, listed: true, own: d.take(1, at)}
		d.open[class] = append(list, s)
	}
	if s.live++; s.live == tracedPage>>class {
		list = d.open[class]
		d.open[class], s.listed = list[:len(list)-1], false
	}
	d.blocks[e.ID] = tracedBlock{slab: s}
}

// take adds a block of whole pages.
func (d *traceDemand) take(pages int, at time.Duration) takenPages {
	n := d.program.Blocks
	d.program.Blocks++
	d.use += pages
	d.program.Events = append(d.program.Events, sim.Event{At: at, Block: n, Pages: pages})
	return takenPages{n, pages}
}

// free frees a block, if it is live.
func (d *traceDemand) free(id uint64, at time.Duration) {
	b, ok := d.blocks[id]
	if !ok {
		return
	}
	delete(d.blocks, id)
	own := b.own
	if s := b.slab; s != nil {
		s.live--
		if !s.listed {
			d.open[s.class], s.listed = append(d.open[s.class], s), true
		}
		if s.live > 0 {
			return
		}
		// It is empty, and its page is free.
		list := d.open[s.class]
		for i := range list {
			if list[i] == s {
				list[i] = list[len(list)-1]
				d.open[s.class] = list[:len(list)-1]
				break
			}
		}
		own = s.own
	}
	d.use -= own.pages
	d.program.Events = append(d.program.Events, sim.Event{At: at, Block: own.block})
}
