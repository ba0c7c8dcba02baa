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
	"github.com/hakmem/hakmem/internal/realtime"
)

// StartTrace begins to write a trace to w: a record of the calls of this package's allocation
// functions, to look at or to replay. It returns an error when a trace is running already, or when
// w refuses the first line. Any goroutine may call it while others allocate.
//
// The environment variable HAKMEM_TRACE=path starts a trace into that file with the first call of
// the process. It replaces an empty file or another trace. Any other file that exists is left
// alone, and [Err] reports that. Child processes inherit the variable: a child that also uses
// hakmem needs a path of its own.
//
// The trace is text. Its first line is "hakmem trace 1". After it there is one line for each call
// that succeeded, in one of these forms:
//
//	a P ID SIZE        an allocation: Malloc, MallocAt, Alloc, Realloc of nil, a chunk of an Arena
//	z P ID SIZE        one of zeroed memory: Calloc, AllocZeroed, New, MakeSlice, Append to nil
//	g P ID SIZE ALIGN  AlignedAlloc, AlignedCalloc, AlignedRealloc of nil
//	r P ID SIZE OLD    Realloc and its kin, Append, Grow, Clip: block OLD became block ID, perhaps the same
//	f P ID             a free: Free, FreeBytes, Delete, FreeSlice, Close of an Arena for each chunk
//
// The fields are:
//
//   - P is the number of the P that ran the call, in decimal. (Go has no public number of a
//     goroutine. With the build tag hakmem_nopin P is 0.)
//   - ID and OLD name a block, in hexadecimal: the distance of its address from the start of
//     hakmem's region, divided by 16. No two live blocks have the same ID.
//   - SIZE is the number of bytes asked for, in decimal.
//   - ALIGN is the alignment in bytes, in decimal.
//
// A reader should skip empty lines and lines that begin with "#". A method of a [Heap] is recorded
// as the function for which it stands. Not recorded are calls that failed or panicked, frees of
// nil, and the memory that an Arena cuts from its chunks.
//
// The lines about one block are in the order of events: its allocation, then its free, then the
// next allocation at the same address. A free, or the OLD of a Realloc, may name a block that no
// line has allocated: one from before the trace. Calls that overlap with StartTrace or StopTrace
// may be missing, or may be recorded as their parts (a Realloc as an allocation and a free). The
// trace of a Heap made before StartTrace begins with the first call that the Heap's magazines
// cannot serve; earlier calls are missing. (The free of a block that is in the trace is such a
// call.)
//
// While a trace runs, every call takes the slow path and a lock: some hundred nanoseconds. When
// none runs, tracing costs nothing. Blocks that were allocated during a trace are freed by the slow
// path even after it.
//
// w is called by the traced calls and by a goroutine that belongs to the trace, one call at a time,
// with whole lines, and never after StopTrace. It must not use this package, nor wait for a
// goroutine that does, because that goroutine's call would wait for w. Lines are held back until
// they are a 64th of what was written so far or 4 KiB, and for a tenth of a second at most. So the
// last lines are missing when a process ends without StopTrace. When w fails, recording ends, and
// StopTrace and Err report the error.
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

// StopTrace ends the trace: it writes the lines that were held back and returns the first error of
// the writer. From then on calls are fast again. Without a trace it does nothing and returns nil.
// Any goroutine may call it while others allocate.
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
	// No line is added from here on, and only after that are calls left untraced. So the trace has
	// no gap before its end.
	t.w = nil
	engine.Watch(engine.WatchCalls, false)
	return t.err
}

const (
	// traceBuffer is the number of bytes at which lines are written: some 200 lines. With that
	// many, writing to a file is 20 of the 90 ns of a traced call, and 64 KiB did not make it less.
	// And it is few enough that a process which ends without StopTrace has written nearly all of
	// its lines.
	traceBuffer = 4 << 10
	// traceLag makes small traces complete: lines are also written when they are a traceLag-th of
	// what was written so far. So a program that makes few calls and ends without StopTrace has its
	// trace, too. Until 4 KiB are written at a time this takes 64·ln(4096) writes, some 500.
	traceLag = 64
	// traceDelay is how long lines wait at most: a person who looks at the file sees no delay, and
	// ten writes a second cost nothing.
	traceDelay = 100 * time.Millisecond
	// traceBegins is the beginning of a trace of any version.
	traceBegins = "hakmem trace"
	// maxLine is the longest line in bytes: an operation, at most four 64-bit numbers in decimal, a
	// blank before each, and the end of the line.
	maxLine = 1 + 4*(1+20) + 1
)

// trace is the one trace. Its lock orders the lines. The lock is taken before any lock of the
// allocator and never while pinned, because w may block.
//
// Two rules keep the lines about a block in order. The line of an allocation is added before the
// caller gets the block, so before its free. And a block is freed under the lock, together with
// adding the line: whoever gets the block next must take the lock to add a line. (So two frees of a
// block at the same time are found out, too: at the second one the block is no longer live.)
var trace = tracer{timer: realtime.New()}

type tracer struct {
	mu    check.Mutex[check.Trace]
	w     io.Writer // nil: no trace
	err   error     // the first error of w; no line is added after it
	buf   []byte    // whole lines that w has not received yet
	done  int       // number of bytes that w has received
	timer *realtime.Timer
	armed bool // the timer is set
}

func init() {
	if path := policy.AtStart().Trace; path != "" {
		trace.mu.Lock()
		trace.begin(&traceFile{path: path})
		trace.mu.Unlock()
		engine.Watch(engine.WatchCalls, true)
	}
}

// begin makes w the writer. The caller holds mu.
func (t *tracer) begin(w io.Writer) {
	t.w, t.err, t.done = w, nil, 0
	t.buf = append(t.buf[:0], traceBegins+" 1\n"...)
	if cap(t.buf) < traceBuffer+maxLine {
		t.buf = append(make([]byte, 0, traceBuffer+maxLine), t.buf...)
	}
}

// flush writes the waiting lines to w. The caller holds mu.
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

// fail ends the recording. The caller holds mu.
func (t *tracer) fail(err error) {
	t.err = fmt.Errorf("hakmem: the trace ended early: %w", err)
	engine.Survive(t.err)
	if engine.Watching(engine.WatchCalls) {
		engine.Watch(engine.WatchCalls, false)
	}
}

// tick is what the timer runs. If no lines wait, the timer stays off until the next line.
func (t *tracer) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed = t.w != nil && t.err == nil && len(t.buf) > 0; t.armed {
		t.flush()
		t.timer.Set(traceDelay, t.tick)
	}
}

// pid returns the number of the P that runs the caller.
func pid() int {
	n := engine.Pin()
	engine.Unpin()
	return n
}

// line adds the line for one call that the P with number who made on the block at p. last is the
// alignment for op 'g' and the old block for op 'r'. The caller holds mu.
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
	case !t.armed:
		t.armed = true
		t.timer.Set(traceDelay, t.tick)
	}
}

// blockID returns the ID of the block at p in a trace.
func blockID(p engine.Block) uint64 { return uint64(p-engine.Block(engine.Base)) >> 4 }

// add adds the line of an allocation or of a Realloc in place.
func (t *tracer) add(op byte, p engine.Block, size mem.Bytes, last uintptr) {
	who := pid()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(who, op, p, size, last)
}

// traceFile is the file of HAKMEM_TRACE. Its first write creates it. So a process that imports this
// package but does not use it, for example one that only starts the program to be traced, leaves
// the file alone.
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

// mayReplace returns an error for a file that holds something other than a trace.
func mayReplace(path string) error {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil // os.Create reports what is wrong
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
