package trace

import (
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
)

// How a recording becomes a tape. A compiler belongs to one call of Compile or Summarize.

// CompileOptions say how a recording becomes a tape. The zero value keeps all of it.
type CompileOptions struct {
	// Threads, if above 0, is how many threads the tape may have. The recorded threads, in the
	// order in which they appear, share them in turn. 1 makes a tape for a single thread.
	Threads int
	// MaxSize is the size to which larger blocks are cut, in bytes; 0 means 1 GiB.
	MaxSize uint64
	// MaxOps, if above 0, is how many operations the tape may have. The rest of the recording is
	// not read.
	MaxOps int
}

// defaultMaxSize is 1 GiB, in bytes: a run can ask for a few such blocks on a machine of 16 GiB.
const defaultMaxSize = 1 << 30

// Anomalies counts the events of a recording that are odd. docs/traces.md says where they come
// from.
type Anomalies struct {
	FailedAllocs    int // allocations that returned nil; skipped
	NilFrees        int // frees of nil; skipped
	UnknownFrees    int // frees of a block that is not live; skipped
	NilReallocs     int // reallocations of nil; allocations on the tape
	UnknownReallocs int // reallocations of a block that is not live; allocations on the tape
	ZeroReallocs    int // reallocations to size 0; a free where nil was returned, otherwise to size 1
	LostFrees       int // allocations of a block that is live; a free of it is put in front
	ClippedSizes    int // sizes above MaxSize; cut to it
	FixedAligns     int // alignments not a power of two from 8 bytes to 2 MiB; raised or cut to one
}

// Total is the number of odd events. An event that is odd in two ways counts twice.
func (a Anomalies) Total() int {
	return a.FailedAllocs + a.NilFrees + a.UnknownFrees + a.NilReallocs + a.UnknownReallocs +
		a.ZeroReallocs + a.LostFrees + a.ClippedSizes + a.FixedAligns
}

// A Summary describes the tape that a recording has, or would have.
type Summary struct {
	Events     int           // events read
	Ops        [Free + 1]int // operations of each Kind
	Threads    int
	Allocated  uint64 // bytes asked for by all operations
	PeakLive   uint64 // bytes asked for, at the peak
	PeakBlocks int    // also the number of slots
	EndLive    uint64 // bytes live at the end
	EndBlocks  int    // blocks live at the end
	Truncated  bool   // the recording has more than MaxOps
	Anomalies  Anomalies
}

// Compile reads a recording to its end and returns its tape. It needs memory for the tape and for
// the blocks that are live at a time. Errors are those of Next, and options out of range.
func Compile(r *Reader, o CompileOptions) (*Tape, error) {
	// A single slice that grows would leave several times its size to the collector.
	const chunk = 1 << 16 // operations, 1.5 MiB
	var ops [][]Op
	s, err := compile(r, o, func(op Op) {
		if n := len(ops); n == 0 || len(ops[n-1]) == chunk {
			ops = append(ops, make([]Op, 0, chunk))
		}
		last := &ops[len(ops)-1]
		*last = append(*last, op)
	})
	if err != nil {
		return nil, err
	}
	t := &Tape{
		Threads: s.Threads, Slots: s.PeakBlocks, Ops: slices.Concat(ops...),
		PeakLive: s.PeakLive, PeakBlocks: s.PeakBlocks, Anomalies: s.Anomalies,
	}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("%s: compiled wrongly, please report this: %w", r.name, err)
	}
	return t, nil
}

// Summarize reads a recording like Compile, but keeps no tape: it needs memory only for the blocks
// that are live at a time.
func Summarize(r *Reader, o CompileOptions) (Summary, error) {
	return compile(r, o, func(Op) {})
}

func compile(r *Reader, o CompileOptions, emit func(Op)) (Summary, error) {
	switch {
	case o.Threads < 0:
		return Summary{}, fmt.Errorf("%d threads: use 1 or more, or 0 for those recorded", o.Threads)
	case o.MaxSize > maxBlock:
		return Summary{}, fmt.Errorf("largest size of %d bytes: use at most %d", o.MaxSize, uint64(maxBlock))
	case o.MaxOps < 0:
		return Summary{}, fmt.Errorf("at most %d operations: use 1 or more, or 0 for all", o.MaxOps)
	case o.MaxSize == 0:
		o.MaxSize = defaultMaxSize
	}
	c := &compiler{o: o, emit: emit, live: map[uint64]uint32{}, threads: map[uint32]uint32{}, oldest: noSlot, newest: noSlot}
	for !c.Truncated {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Summary{}, err
		}
		c.event(e)
	}
	c.Threads = len(c.idle)
	c.EndBlocks = len(c.live)
	return c.Summary, nil
}

// A compiler knows the blocks that are live at the present event.
type compiler struct {
	Summary
	o    CompileOptions
	emit func(Op)

	live    map[uint64]uint32 // slots of the live blocks, by ID
	slots   []slot
	threads map[uint32]uint32 // the tape's threads, by the recorded ones

	// idle has the empty slots, by the thread that emptied them, in the order in which that
	// happened. A list through the slots joins all of them in that order, so that the oldest is
	// found however many threads there are.
	idle           [][]uint32
	oldest, newest uint32 // its ends, noSlot if it is empty
	n              int    // operations emitted
}

// A slot is what the compiler knows about one slot.
type slot struct {
	size uint64 // bytes, of the live block
	seq  uint32 // of the next operation

	// Of an idle slot:
	by            uint32 // the thread that emptied it
	before, after uint32 // the slots emptied before and after it, or noSlot
}

// noSlot is no slot's number: a compiler of that many slots would need 100 GiB.
const noSlot = math.MaxUint32

func (c *compiler) event(e Event) {
	c.Events++
	a := &c.Anomalies
	if old, ok := c.live[e.ID]; ok && e.Kind < Free && !(e.Kind == Realloc && e.Old == e.ID) {
		// The block must have been freed; otherwise it could not have been given away again.
		a.LostFrees++
		c.free(e.Thread, e.ID, old)
	}
	switch e.Kind {
	case Malloc, Calloc, Memalign:
		c.alloc(e)
	case Realloc:
		c.realloc(e)
	case Free:
		s, ok := c.live[e.ID]
		switch {
		case ok:
			c.free(e.Thread, e.ID, s)
		case e.ID == 0:
			a.NilFrees++
		default:
			a.UnknownFrees++
		}
	}
}

func (c *compiler) alloc(e Event) {
	if e.ID == 0 {
		c.Anomalies.FailedAllocs++
		return
	}
	if c.full() {
		return
	}
	thread := c.thread(e.Thread)
	s := c.take(thread)
	c.add(Op{Size: c.clip(e.Size), Slot: s, Thread: thread, Kind: e.Kind, Align: c.align(e)})
	c.live[e.ID] = s
	c.PeakBlocks = max(c.PeakBlocks, len(c.live))
}

func (c *compiler) realloc(e Event) {
	a := &c.Anomalies
	s, known := c.live[e.Old]
	switch {
	case e.ID != 0 && !known:
		if e.Old == 0 {
			a.NilReallocs++
		} else {
			a.UnknownReallocs++
		}
		e.Kind = Malloc
		c.alloc(e)
	case e.ID != 0:
		if c.full() {
			return
		}
		size := c.clip(e.Size)
		if size == 0 {
			a.ZeroReallocs++
			size = 1
		}
		c.add(Op{Size: size, Slot: s, Thread: c.thread(e.Thread), Kind: Realloc})
		delete(c.live, e.Old)
		c.live[e.ID] = s
	case e.Size != 0 || e.Old == 0: // the old block, if any, stays
		a.FailedAllocs++
	case known:
		a.ZeroReallocs++
		c.free(e.Thread, e.Old, s)
	default:
		a.UnknownFrees++
	}
}

func (c *compiler) free(recorded uint32, id uint64, s uint32) {
	if c.full() {
		return
	}
	thread := c.thread(recorded)
	c.add(Op{Slot: s, Thread: thread, Kind: Free})
	delete(c.live, id)
	c.idle[thread] = append(c.idle[thread], s)
	last := &c.slots[s]
	last.by, last.before, last.after = thread, c.newest, noSlot
	*c.afterOf(c.newest) = s
	c.newest = s
}

// afterOf returns the variable that refers to the idle slot emptied after s; noSlot is before all.
func (c *compiler) afterOf(s uint32) *uint32 {
	if s == noSlot {
		return &c.oldest
	}
	return &c.slots[s].after
}

// full reports that there is no room for another operation, and ends the tape.
func (c *compiler) full() bool {
	c.Truncated = c.Truncated || c.o.MaxOps > 0 && c.n == c.o.MaxOps
	return c.Truncated
}

// add emits an operation. There must be room for it.
func (c *compiler) add(op Op) {
	c.n++
	s := &c.slots[op.Slot]
	op.Seq = s.seq
	s.seq++
	c.EndLive += op.Size - s.size
	c.PeakLive = max(c.PeakLive, c.EndLive)
	s.size = op.Size
	c.Allocated += op.Size
	c.Ops[op.Kind]++
	c.emit(op)
}

// thread returns the tape's number of a recorded thread.
func (c *compiler) thread(recorded uint32) uint32 {
	t, ok := c.threads[recorded]
	if !ok {
		t = uint32(len(c.threads))
		if c.o.Threads > 0 {
			t %= uint32(c.o.Threads)
		}
		c.threads[recorded] = t
		if int(t) == len(c.idle) {
			c.idle = append(c.idle, nil)
		}
	}
	return t
}

// take returns an empty slot. It prefers the slot that the thread itself emptied last: the thread
// need not wait for it, and its cache has it. Otherwise it takes the slot that another thread
// emptied longest ago; in a run, too, that thread has probably done so by then.
func (c *compiler) take(thread uint32) uint32 {
	if c.oldest == noSlot {
		c.slots = append(c.slots, slot{})
		return uint32(len(c.slots) - 1)
	}
	var s uint32
	if own := c.idle[thread]; len(own) > 0 {
		s = own[len(own)-1]
		c.idle[thread] = own[:len(own)-1]
	} else {
		s = c.oldest // of all slots, and so of those that its thread emptied
		by := &c.idle[c.slots[s].by]
		*by = (*by)[1:]
	}
	taken := &c.slots[s]
	*c.afterOf(taken.before) = taken.after
	if taken.after == noSlot {
		c.newest = taken.before
	} else {
		c.slots[taken.after].before = taken.before
	}
	return s
}

func (c *compiler) clip(size uint64) uint64 {
	if size > c.o.MaxSize {
		c.Anomalies.ClippedSizes++
		return c.o.MaxSize
	}
	return size
}

// align returns the logarithm of an event's alignment, or 0 where it has none.
func (c *compiler) align(e Event) uint8 {
	if e.Kind != Memalign {
		return 0
	}
	log := max(minAlign, bits.Len64(max(e.Align, 1)-1)) // rounded up, as C libraries do
	log = min(log, maxAlign)
	if e.Align != 1<<log {
		c.Anomalies.FixedAligns++
	}
	return uint8(log)
}
