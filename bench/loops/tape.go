package loops

import (
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/bench/trace"
)

// How the loop "tape" gets its operations, and how threads take turns on a slot. The operations are
// not changed after loadTape; the turns are atomic.

// tape is what the loop "tape" executes: the operations of a trace.Tape, divided by thread.
type tape struct {
	ops     [][]trace.Op
	initial []int      // the number of each thread's operations before the clock starts
	olds    [][]uint64 // the sizes before each thread's reallocs
	// start is the number of initial operations. left is the number of blocks that are alive at the
	// end.
	start, left, all int
}

// timed is the number of operations between the start of the clock and its stop.
func (t *tape) timed(rounds uint64) uint64 {
	return rounds*uint64(t.all+t.left) - uint64(t.start+t.left)
}

// TapeOps is the number of timed operations of the tape, executed rounds times.
func TapeOps(t *trace.Tape, rounds uint64) uint64 {
	return (&tape{start: t.Initial, left: left(t), all: len(t.Ops)}).timed(rounds)
}

// left is the number of blocks that are alive at the end of the tape.
func left(t *trace.Tape) (n int) {
	for _, op := range t.Ops {
		switch op.Kind {
		case trace.Malloc, trace.Calloc, trace.Memalign:
			n++
		case trace.Free:
			n--
		}
	}
	return n
}

// loadTape reads the file p.Tape. For the empty loop it sets p.Max to the largest size.
func loadTape(p *Params, s *shared) error {
	from, err := trace.Load(p.Tape)
	if err != nil {
		return err
	}
	return useTape(from, p, s)
}

func useTape(from *trace.Tape, p *Params, s *shared) error {
	if p.Threads != from.Threads {
		return &ParamError{"threads", strconv.Itoa(p.Threads), fmt.Sprintf("the tape has %d; leave the flag out", from.Threads)}
	}
	t := &tape{
		ops: make([][]trace.Op, from.Threads), initial: make([]int, from.Threads), olds: make([][]uint64, from.Threads),
		start: from.Initial, left: left(from), all: len(from.Ops),
	}
	sizes := make([]uint64, from.Slots)
	count := make([]int, from.Threads)
	for _, op := range from.Ops {
		count[op.Thread]++
	}
	for i, n := range count {
		t.ops[i] = make([]trace.Op, 0, n)
	}
	for i, op := range from.Ops {
		t.ops[op.Thread] = append(t.ops[op.Thread], op)
		if i < from.Initial {
			t.initial[op.Thread]++
		}
		if op.Kind == trace.Realloc {
			t.olds[op.Thread] = append(t.olds[op.Thread], sizes[op.Slot])
		}
		sizes[op.Slot] = op.Size
		p.Max = max(p.Max, op.Size)
	}
	s.tape = t
	s.words, s.pointers, s.turns = touched[uintptr](from.Slots), touched[unsafe.Pointer](from.Slots), touched[uint32](from.Slots)
	return nil
}

// await waits for the slot's turn: the operations on one slot follow each other in the recorded
// order, whoever performs them. The waiting begins with spinning and ends with sleeping, because a
// recording may have more threads than this machine can run.
func await(turn *uint32, seq uint32) {
	for i := 0; atomic.LoadUint32(turn) != seq; i++ {
		switch {
		case i < 100:
		case i < 1000:
			runtime.Gosched()
		default:
			time.Sleep(20 * time.Microsecond)
		}
	}
}
