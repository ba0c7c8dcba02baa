package hakmem

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
)

// StartTrace begins to write a trace of the calls of this package's allocation
// functions to w: what a program asks of its allocator, to look at or to replay.
// It returns an error when a trace runs already, or when w refuses the first
// line. Any goroutine, while others allocate. The variable HAKMEM_TRACE=path
// starts a trace into that file with the process's first call; it replaces a trace
// or an empty file, and leaves any other alone, which Err tells. Child processes
// inherit the variable: one that uses hakmem, too, needs a path of its own.
//
// The trace is text. The first line is "hakmem trace 1", then there is one line
// for each call that succeeded, in one of these forms:
//
//	a P ID SIZE        an allocation: Malloc, MallocAt, Alloc, Realloc of nil, a chunk of an Arena
//	z P ID SIZE        one of zeroed memory: Calloc, AllocZeroed, New, MakeSlice
//	g P ID SIZE ALIGN  AlignedAlloc
//	r P ID SIZE OLD    Realloc: block OLD became block ID, perhaps the same
//	f P ID             a free: Free, FreeBytes, Delete, FreeSlice, Close of an Arena for each chunk
//
// A Heap's methods are recorded as the functions they stand for. P is the number
// of the P that ran the call, in decimal (Go has no public number of a goroutine;
// with the build tag hakmem_nopin it is 0). ID and OLD name a block, in
// hexadecimal: its address less the region's, over 16. No two live blocks have
// the same. SIZE is the number of bytes asked for and ALIGN the alignment, in
// decimal. A reader should skip lines that begin with "#" and empty ones. Not
// recorded are calls that failed or panicked, frees of nil, and the memory that
// an Arena cuts from its chunks.
//
// For each block the lines are in the order of what happened to it: a block's
// allocation, then its free, then the next allocation of the same address. A
// free, or the OLD of a Realloc, may name a block that no line has allocated:
// one from before the trace. Calls that StartTrace or StopTrace overlaps may be
// missing, or be recorded as their parts (a Realloc as an allocation and a free).
// A Heap made before StartTrace is traced from its first call on that its
// magazines cannot serve; what it did until then is missing. (The free of a block
// that is in the trace is such a call.)
//
// While a trace runs every call takes the slow path and a lock, some hundred
// nanoseconds; when none runs tracing costs nothing. Blocks allocated meanwhile
// are freed by the slow path afterwards, too.
//
// w is called by the calls that are traced and by a goroutine of its own, one at
// a time, with whole lines, and after StopTrace no more. It must not use this
// package, nor wait for a goroutine that does: that call would wait for w. Lines
// are gathered up to a 64th of what was written so far, 4 KiB and a tenth of a
// second, so that the last ones are missing when a process ends without StopTrace.
// When w fails recording ends; StopTrace and Err tell.
func StartTrace(w io.Writer) error {
	t := &trace
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w != nil {
		return errors.New("hakmem: StartTrace: a trace is running already: end it with StopTrace")
	}
	t.begin(w)
	if t.flush(); t.err != nil {
		t.w = nil
		return t.err
	}
	engine.Watch(engine.WatchCalls, true)
	return nil
}

// StopTrace ends the trace: it writes what was gathered and returns the first
// error of the writer. Calls are fast again from then on. Without a trace it
// does nothing and returns nil. Any goroutine, while others allocate.
func StopTrace() error {
	t := &trace
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w == nil {
		return nil
	}
	t.flush()
	if f, ok := t.w.(*traceFile); ok {
		if err := f.close(); t.err == nil && err != nil {
			t.fail(err)
		}
	}
	// No line is added from here on, and only then are calls left untraced: the
	// trace is a part without gaps.
	t.w = nil
	engine.Watch(engine.WatchCalls, false)
	return t.err
}

const (
	// traceBuffer is when lines are written: some 200 of them, which makes writing
	// to a file 20 of the 90 ns of a traced call (64 KiB did not make it less), and
	// so few that a process which ends without StopTrace has written nearly all.
	traceBuffer = 4 << 10
	// traceLag: lines are written when they are that part of what was written so far,
	// so that a program that makes few calls, and ends without StopTrace, has its
	// trace too. Until there are 4 KiB at a time that is 64·ln(4096) writes, 500.
	traceLag = 64
	// traceDelay is how long lines wait at most: a person who looks at the file
	// sees no delay, and ten writes a second cost nothing.
	traceDelay = 100 * time.Millisecond
	// traceBegins a trace of any version.
	traceBegins = "hakmem trace"
	// maxLine: an operation, four 64-bit numbers in decimal at most, and blanks.
	maxLine = 1 + 4*(1+20) + 1
)

// trace is the one trace. Its lock orders the lines. It is taken before any lock
// of the allocator and never while pinned, because w may block.
//
// That the lines are in order needs two things. A block's line of allocation is
// added before the caller gets the block, so before its free. And a block is
// freed under the lock, together with the adding of the line: who gets the block
// the next moment must take the lock to add its own. (Two frees of a block at
// the same time find each other out there, too: the second is not live.)
var trace tracer

type tracer struct {
	mu    check.Mutex[check.Trace]
	w     io.Writer // nil: no trace
	err   error     // the first error of w: nothing is added after it
	buf   []byte    // whole lines that w has not got yet
	done  int       // bytes that w has got
	timer *time.Timer
	armed bool // the timer runs
}

func init() {
	if path := policy.AtStart().Trace; path != "" {
		trace.begin(&traceFile{path: path})
		engine.Watch(engine.WatchCalls, true)
	}
}

// begin makes w the writer. Under mu.
func (t *tracer) begin(w io.Writer) {
	t.w, t.err, t.done = w, nil, 0
	t.buf = append(t.buf[:0], traceBegins+" 1\n"...)
	if cap(t.buf) < traceBuffer+maxLine {
		t.buf = append(make([]byte, 0, traceBuffer+maxLine), t.buf...)
	}
}

// flush gives w the lines that wait. Under mu.
func (t *tracer) flush() {
	if t.err != nil || len(t.buf) == 0 {
		return
	}
	n, err := t.w.Write(t.buf)
	if err == nil && n < len(t.buf) {
		err = io.ErrShortWrite
	}
	t.done += n
	t.buf = t.buf[:0]
	if err != nil {
		t.fail(err)
	}
}

// fail ends the recording. Under mu.
func (t *tracer) fail(err error) {
	t.err = fmt.Errorf("hakmem: the trace ended early: %w", err)
	engine.Survive(t.err)
	if engine.Watching(engine.WatchCalls) {
		engine.Watch(engine.WatchCalls, false)
	}
}

// tick is what the timer runs. With nothing to do it stops until the next line.
func (t *tracer) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed = t.w != nil && t.err == nil && len(t.buf) > 0; t.armed {
		t.flush()
		t.timer.Reset(traceDelay)
	}
}

// pid returns the number of the P that runs the caller.
func pid() int {
	n := engine.Pin()
	engine.Unpin()
	return n
}

// line adds the line of one call by P who on the block at p. last is the
// alignment of op 'g', the old block of op 'r'. Under mu.
func (t *tracer) line(who int, op byte, p engine.Block, size mem.Bytes, last uintptr) {
	if t.w == nil || t.err != nil {
		return
	}
	b := append(t.buf, op, ' ')
	b = strconv.AppendInt(b, int64(who), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, blockID(p), 16)
	if op != 'f' {
		engine.MarkWatched(p)
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(size), 10)
	}
	switch op {
	case 'g':
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(last), 10)
	case 'r':
		b = append(b, ' ')
		b = strconv.AppendUint(b, blockID(engine.Block(last)), 16)
	}
	t.buf = append(b, '\n')
	switch {
	case len(t.buf) >= min(traceBuffer, t.done/traceLag):
		t.flush()
	case t.timer == nil:
		t.armed = true
		t.timer = time.AfterFunc(traceDelay, t.tick)
	case !t.armed:
		t.armed = true
		t.timer.Reset(traceDelay)
	}
}

// blockID names the block at p in a trace.
func blockID(p engine.Block) uint64 { return uint64(p-engine.Block(engine.Base)) >> 4 }

// add adds the line of an allocation, or of a Realloc in place.
func (t *tracer) add(op byte, p engine.Block, size mem.Bytes, last uintptr) {
	who := pid()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(who, op, p, size, last)
}

// traceFile is the file of HAKMEM_TRACE. Its first write creates it, so that a
// process that imports this package and does not use it (one that starts the
// program that is meant, say) leaves the file alone.
type traceFile struct {
	path string
	file *os.File
}

func (f *traceFile) Write(b []byte) (int, error) {
	if f.file == nil {
		if err := mayReplace(f.path); err != nil {
			return 0, err
		}
		var err error
		if f.file, err = os.Create(f.path); err != nil {
			return 0, err
		}
	}
	return f.file.Write(b)
}

// mayReplace refuses a file that holds something else than a trace.
func mayReplace(path string) error {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil // what is wrong os.Create tells
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	start := make([]byte, len(traceBegins))
	if _, err := io.ReadFull(file, start); err != nil || string(start) != traceBegins {
		return fmt.Errorf("HAKMEM_TRACE=%q holds something else than a trace; name another file, or remove this one", path)
	}
	return nil
}

func (f *traceFile) close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
