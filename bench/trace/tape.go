package trace

import "fmt"

// A tape and its operations, and the check that a tape can be executed.

// An Op is one operation of a tape: 24 bytes, in memory and (little-endian) in its file, where C
// reads struct { uint64_t size; uint32_t slot, seq, thread; uint8_t kind, align; uint16_t pad; }.
type Op struct {
	Size uint64 // bytes; 0 for a Free, never 0 for a Realloc
	Slot uint32 // where the block's pointer is kept
	// Seq is the number of operations on the slot before this one. To keep the recorded order of
	// each slot's operations, threads wait until a counter of the slot equals Seq, and then
	// increment it.
	Seq    uint32
	Thread uint32
	Kind   Kind  // Malloc to Free
	Align  uint8 // log2 of bytes, 3 to 21 for a Memalign; otherwise 0
	_      uint16
}

// Bounds of what a tape may ask for.
const (
	// minAlign is the alignment that every C function with an alignment accepts: a pointer's, 8
	// bytes.
	minAlign = 3
	// maxAlign is 2 MiB, the largest alignment that hakmem has.
	maxAlign = 21
	// maxBlock is 1 TiB, in bytes. That is more than a machine has, and 2^24 such blocks must be
	// live before a sum of them overflows.
	maxBlock = 1 << 40
	// slotPad is the multiple to which a Distribution rounds up the slots of a thread: two cache
	// lines of pointers, which processors fetch in pairs. It also bounds the slots of a tape, to
	// that many for each operation, so that a small file does not make its executor allocate much.
	slotPad = 16
)

// A Tape is a list of operations on numbered slots. The executor must free the blocks that are live
// after the last operation.
type Tape struct {
	Threads int // those of Ops are numbered 0 to Threads-1
	Slots   int // those of Ops are numbered 0 to Slots-1
	// Ops are in the recorded order, of all threads together.
	Ops []Op
	// Initial is how many operations at the start, all of them allocations, set up the population.
	// They are not timed.
	Initial int
	// PeakLive and PeakBlocks are the most bytes asked for, and the most blocks, that are live
	// after any operation when Ops run in their order.
	PeakLive   uint64
	PeakBlocks int
	// Anomalies counts what was odd in the recording. It is not saved.
	Anomalies Anomalies
}

// Check reports the first operation that cannot be executed: one whose fields are out of bounds,
// that allocates to an occupied slot, frees or reallocates an empty one, or is out of sequence. If
// there is none, it reports a wrong field of the Tape. Each Tape that this package returns has
// passed it.
func (t *Tape) Check() error {
	peak, blocks, err := t.measure()
	switch {
	case err != nil:
		return err
	case t.PeakLive != peak:
		return fmt.Errorf("peak of %d live bytes: the operations have %d", t.PeakLive, peak)
	case t.PeakBlocks != blocks:
		return fmt.Errorf("peak of %d live blocks: the operations have %d", t.PeakBlocks, blocks)
	}
	return nil
}

// measure checks the tape except for its peaks, which it returns.
func (t *Tape) measure() (peak uint64, blocks int, err error) {
	switch n := len(t.Ops); {
	case t.Threads < 0 || t.Threads > n:
		return 0, 0, fmt.Errorf("%d threads: at most one for each of the %d operations", t.Threads, n)
	case t.Slots < 0 || t.Slots > slotPad*n:
		return 0, 0, fmt.Errorf("%d slots: at most %d for each of the %d operations", t.Slots, slotPad, n)
	case t.Initial < 0 || t.Initial > n:
		return 0, 0, fmt.Errorf("%d initial operations: there are %d operations", t.Initial, n)
	}
	type state struct {
		size uint64
		seq  uint32
		live bool
	}
	slots := make([]state, t.Slots)
	bytes, live := uint64(0), 0
	for i, op := range t.Ops {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("operation %d, a %v: %s", i, op.Kind, fmt.Sprintf(format, args...))
		}
		switch {
		case op.Kind > Free:
			return 0, 0, bad("use kinds 0 to %d", Free)
		case i < t.Initial && op.Kind == Free || i < t.Initial && op.Kind == Realloc:
			return 0, 0, bad("the %d initial operations must allocate", t.Initial)
		case uint64(op.Slot) >= uint64(t.Slots):
			return 0, 0, bad("slot %d: there are %d", op.Slot, t.Slots)
		case uint64(op.Thread) >= uint64(t.Threads):
			return 0, 0, bad("thread %d: there are %d", op.Thread, t.Threads)
		case op.Size > maxBlock:
			return 0, 0, bad("size %d: at most %d bytes", op.Size, uint64(maxBlock))
		case op.Kind == Free && op.Size != 0:
			return 0, 0, bad("size %d: must be 0", op.Size)
		case op.Kind == Realloc && op.Size == 0:
			return 0, 0, bad("size 0: C libraries disagree about it")
		case op.Kind == Memalign && (op.Align < minAlign || op.Align > maxAlign):
			return 0, 0, bad("alignment 2^%d: use 2^%d to 2^%d bytes", op.Align, minAlign, maxAlign)
		case op.Kind != Memalign && op.Align != 0:
			return 0, 0, bad("alignment %d: must be 0", op.Align)
		}
		s := &slots[op.Slot]
		switch needsBlock := op.Kind == Realloc || op.Kind == Free; {
		case op.Seq != s.seq:
			return 0, 0, bad("sequence number %d: the next of slot %d is %d", op.Seq, op.Slot, s.seq)
		case needsBlock && !s.live:
			return 0, 0, bad("slot %d is empty", op.Slot)
		case !needsBlock && s.live:
			return 0, 0, bad("slot %d is occupied", op.Slot)
		}
		bytes += op.Size - s.size
		switch {
		case op.Kind == Free:
			live--
		case !s.live:
			live++
		}
		*s = state{size: op.Size, seq: s.seq + 1, live: op.Kind != Free}
		peak, blocks = max(peak, bytes), max(blocks, live)
	}
	return peak, blocks, nil
}
