package hakmem_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/testkit/workout"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/testkit"
)

// traceLine is one line of a trace.
type traceLine struct {
	op                      byte
	p, id, size, align, old uint64
}

// parseTrace reads a trace exactly as StartTrace describes it: whole lines, and no blank or digit
// too many.
func parseTrace(text string) (lines []traceLine, err error) {
	text, ok := strings.CutPrefix(text, "hakmem trace 1\n")
	if !ok {
		return nil, fmt.Errorf("the first line is wrong: %.40q", text)
	}
	for text := range strings.Lines(text) {
		l := traceLine{op: text[0]}
		numbers := []*uint64{&l.p, &l.id, &l.size}
		switch l.op {
		case 'a', 'z':
		case 'g':
			numbers = append(numbers, &l.align)
		case 'r':
			numbers = append(numbers, &l.old)
		case 'f':
			numbers = numbers[:2]
		default:
			numbers = nil
		}
		again := text[:1]
		for i, f := range strings.Fields(text)[1:] {
			if i == len(numbers) {
				break
			}
			base := 10
			if numbers[i] == &l.id || numbers[i] == &l.old {
				base = 16
			}
			*numbers[i], _ = strconv.ParseUint(f, base, 64)
			again += " " + strconv.FormatUint(*numbers[i], base)
		}
		if again+"\n" != text || strings.Count(text, " ") != len(numbers) || l.id == 0 {
			return nil, fmt.Errorf("line %d: %q", len(lines)+2, text)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// replayed is the state after a trace: the live blocks, the number of lines of each kind, and the
// number of freed blocks that the trace had not allocated.
type replayed struct {
	live    map[uint64]uint64
	count   map[byte]int
	unknown int
}

func replayTrace(lines []traceLine) (r replayed, err error) {
	r = replayed{live: map[uint64]uint64{}, count: map[byte]int{}}
	for i, l := range lines {
		r.count[l.op]++
		gone := l.old
		if l.op == 'f' {
			gone = l.id
		}
		if gone != 0 {
			if _, ok := r.live[gone]; !ok {
				r.unknown++
			}
			delete(r.live, gone)
		}
		if l.op != 'f' {
			if _, ok := r.live[l.id]; ok {
				return r, fmt.Errorf("line %d: %+v: the block is live", i+2, l)
			}
			r.live[l.id] = l.size
		}
	}
	return r, nil
}

// mustReplay calls parseTrace and then replayTrace; both must succeed.
func mustReplay(t *testing.T, text string) replayed {
	t.Helper()
	lines, err := parseTrace(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := replayTrace(lines)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func traceID(p unsafe.Pointer) uint64 { return uint64(uintptr(p)-engine.Base) >> 4 }

// traced returns the trace of the calls that do makes.
func traced(t *testing.T, do func()) string {
	t.Helper()
	var b bytes.Buffer
	if err := hakmem.StartTrace(&b); err != nil {
		t.Fatal(err)
	}
	do()
	if err := hakmem.StopTrace(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTraceLines makes every operation and compares the trace with the lines that it must leave.
func TestTraceLines(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that P is 0
	site := hakmem.RegisterSite("trace_test")
	var before *hakmem.Heap
	old := hakmem.Malloc(48) // allocated before the trace

	var want []string
	line := func(op string, args ...any) { // args are blocks and numbers
		for _, a := range args {
			if p, ok := a.(unsafe.Pointer); ok {
				a = strconv.FormatUint(traceID(p), 16)
			}
			op += fmt.Sprint(" ", a)
		}
		want = append(want, op[:1]+" 0"+op[1:]+"\n")
	}
	free := func(p unsafe.Pointer) {
		hakmem.Free(p)
		line("f", p)
	}
	refused := func(do func()) {
		t.Helper()
		if testkit.PanicOf(do) == nil {
			t.Error("a call that is misuse returned")
		}
	}
	throughHeap := func(h *hakmem.Heap, size uintptr) {
		p := h.Malloc(size)
		line("a", p, size)
		q := h.Realloc(p, 3*size)
		line("r", q, 3*size, p)
		h.Free(q)
		line("f", q)
		p = h.Calloc(size, 2)
		line("z", p, 2*size)
		if !testkit.IsZero(p, 2*size) {
			t.Errorf("Heap.Calloc(%d, 2): not zero", size)
		}
		h.Free(p)
		line("f", p)
		refused(func() { h.Free(p) })
		h.Free(nil)
		p = h.Realloc(nil, size)
		line("a", p, size)
		hakmem.Free(p)
		line("f", p)
	}
	for _, tt := range []struct {
		name string
		do   func(size uintptr)
	}{
		{"Malloc, Free", func(size uintptr) {
			p := hakmem.Malloc(size)
			line("a", p, size)
			free(p)
		}},
		{"MallocAt", func(size uintptr) {
			p := hakmem.MallocAt(site, size)
			line("a", p, size)
			q := hakmem.Realloc(p, 4*size)
			line("r", q, 4*size, p)
			free(q)
		}},
		{"Calloc", func(size uintptr) {
			p := hakmem.Calloc(3, size)
			line("z", p, 3*size)
			if !testkit.IsZero(p, 3*size) {
				t.Errorf("Calloc(3, %d): not zero", size)
			}
			free(p)
		}},
		{"AlignedAlloc", func(size uintptr) {
			for align := uintptr(1); align <= 2<<20; align *= 2 {
				p := hakmem.AlignedAlloc(align, size)
				line("g", p, size, align)
				if uintptr(p)%align != 0 {
					t.Errorf("AlignedAlloc(%d, %d) = %p", align, size, p)
				}
				free(p)
			}
		}},
		{"Realloc", func(size uintptr) {
			p := hakmem.Realloc(nil, size)
			line("a", p, size)
			q := hakmem.Realloc(p, hakmem.UsableSize(p)) // the block stays where it is
			line("r", p, hakmem.UsableSize(p), p)
			if q != p {
				t.Errorf("Realloc(%p of %d bytes) within the block = %p", p, size, q)
			}
			testkit.Fill(p, size, 1)
			q = hakmem.Realloc(p, 10*size)
			line("r", q, 10*size, p)
			if !testkit.Intact(q, size&^7, 1) {
				t.Errorf("Realloc(%d to %d bytes) lost the contents", size, 10*size)
			}
			if hakmem.Realloc(q, absurd) != nil {
				t.Error("an absurd size was granted")
			}
			free(q)
			refused(func() { hakmem.Realloc(q, 1) })
		}},
		{"Realloc of a block from before", func(size uintptr) {
			p := hakmem.Realloc(old, 48)
			line("r", p, 48, old)
			old = hakmem.Realloc(p, size)
			line("r", old, size, p)
			if old == p {
				return
			}
			p, old = old, hakmem.Malloc(48)
			line("a", old, 48)
			free(p)
		}},
		{"bytes", func(size uintptr) {
			b := hakmem.Alloc(int(size))
			line("a", unsafe.Pointer(unsafe.SliceData(b)), size)
			hakmem.FreeBytes(b)
			line("f", unsafe.Pointer(unsafe.SliceData(b)))
			refused(func() { hakmem.FreeBytes(b) })
			b = hakmem.AllocZeroed(int(size))
			line("z", unsafe.Pointer(unsafe.SliceData(b)), size)
			hakmem.FreeBytes(b)
			line("f", unsafe.Pointer(unsafe.SliceData(b)))
		}},
		{"typed", func(size uintptr) {
			x := hakmem.New[[5]int64]()
			line("z", unsafe.Pointer(x), 40)
			hakmem.Delete(x)
			line("f", unsafe.Pointer(x))
			s := hakmem.MakeSlice[uint32](1, int(size))
			line("z", unsafe.Pointer(unsafe.SliceData(s)), 4*size)
			hakmem.FreeSlice(s)
			line("f", unsafe.Pointer(unsafe.SliceData(s)))
		}},
		{"a Heap from before", func(size uintptr) {
			// The trace does not see what the Heap's magazines serve. It sees the free of a traced
			// block, and from then on every call of this Heap.
			before.Free(before.Malloc(48))
			p := hakmem.Malloc(48)
			line("a", p, 48)
			before.Free(p)
			line("f", p)
			throughHeap(before, size)
		}},
		{"a Heap made meanwhile", func(size uintptr) {
			h := hakmem.NewHeap()
			throughHeap(h, size)
			h.Close()
			refused(func() { h.Malloc(size) })
			refused(func() { h.Free(old) })
		}},
		{"Arena", func(size uintptr) {
			a := hakmem.NewArena()
			p := a.Alloc(size, 16)
			n := max(size, 64<<10)
			line("a", p, n)
			a.Reset()
			a.Alloc(size, 16)
			refused(func() { hakmem.Free(p) })
			a.Close()
			line("f", p)
		}},
		{"what leaves no line", func(size uintptr) {
			hakmem.Free(nil)
			hakmem.FreeBytes(nil)
			if hakmem.Malloc(absurd) != nil || hakmem.Calloc(absurd, absurd) != nil || hakmem.AlignedAlloc(64, absurd) != nil {
				t.Error("an absurd size was granted")
			}
			p := hakmem.Malloc(max(size, 32))
			line("a", p, max(size, 32))
			refused(func() { hakmem.Free(unsafe.Add(p, 16)) })
			refused(func() { hakmem.Free(unsafe.Add(p, 1)) })
			refused(func() { hakmem.Free(unsafe.Pointer(&want)) })
			hakmem.UsableSize(p)
			free(p)
			refused(func() { hakmem.Free(p) })
			refused(func() { hakmem.UsableSize(p) })
		}},
	} {
		if (testkit.Race || asan.On) && tt.name == "a Heap from before" {
			continue // Heaps have no fast path here, so the trace sees them at once
		}
		for _, k := range workout.Kinds {
			want = []string{"hakmem trace 1\n"}
			before = hakmem.NewHeap()
			before.Free(before.Malloc(48)) // a block waits in the Heap's magazine
			got := traced(t, func() { tt.do(k.Size) })
			if got != strings.Join(want, "") {
				t.Errorf("%s, %s:\n%swant:\n%s", tt.name, k.Name, got, want)
			}
			if r := mustReplay(t, got); len(r.live) > 1 {
				t.Errorf("%s, %s: left %v", tt.name, k.Name, r.live)
			}
			before.Close()
		}
	}
	hakmem.Free(old)
}

// traceWorker makes random calls and counts the lines that they must leave.
type traceWorker struct {
	larges bool // allocate only large blocks, so that a goroutine gets those that another has just freed
	r      *rand.Rand
	h      *hakmem.Heap
	site   hakmem.Site
	held   []unsafe.Pointer
	count  map[byte]int
}

func newTraceWorker(seed uint64, h *hakmem.Heap) *traceWorker {
	return &traceWorker{r: rand.New(rand.NewPCG(seed, 1)), h: h, site: hakmem.RegisterSite("trace_test"), count: map[byte]int{}}
}

// step makes one call, or hands a block to another worker.
func (w *traceWorker) step(others chan unsafe.Pointer) {
	size := uintptr(w.r.UintN(200))
	if w.larges {
		size = 40_000
	} else if w.r.UintN(10) == 0 {
		size = uintptr(w.r.UintN(70_000))
	}
	malloc, calloc, realloc, free := hakmem.Malloc, hakmem.Calloc, hakmem.Realloc, hakmem.Free
	if w.r.UintN(2) == 0 {
		malloc, calloc, realloc, free = w.h.Malloc, w.h.Calloc, w.h.Realloc, w.h.Free
	}
	take := func() (p unsafe.Pointer) {
		i := w.r.IntN(len(w.held))
		p, w.held[i] = w.held[i], w.held[len(w.held)-1]
		w.held = w.held[:len(w.held)-1]
		return p
	}
	op := w.r.UintN(20)
	if len(w.held) > 300 {
		op = 19
	} else if len(w.held) == 0 {
		op = 0
	}
	var p unsafe.Pointer
	switch {
	case op < 6:
		p, w.count['a'] = malloc(size), w.count['a']+1
	case op < 7:
		p, w.count['a'] = hakmem.MallocAt(w.site, size), w.count['a']+1
	case op < 9:
		p, w.count['z'] = calloc(1, size), w.count['z']+1
	case op < 10:
		p, w.count['g'] = hakmem.AlignedAlloc(1<<w.r.UintN(13), size), w.count['g']+1
	case op < 13:
		p, w.count['r'] = realloc(take(), size), w.count['r']+1
	case op < 15:
		select {
		case others <- w.held[len(w.held)-1]:
			w.held = w.held[:len(w.held)-1]
		case p = <-others:
		}
	default:
		free(take())
		w.count['f']++
	}
	if p != nil {
		w.held = append(w.held, p)
	}
}

// TestTraceCountsEveryCall checks that all calls which several goroutines make between StartTrace
// and StopTrace are in the trace, once each and in a possible order.
func TestTraceCountsEveryCall(t *testing.T) {
	t.Run("all sizes", func(t *testing.T) { traceCountsEveryCall(t, false) })
	t.Run("large blocks", func(t *testing.T) { traceCountsEveryCall(t, true) })
}

func traceCountsEveryCall(t *testing.T, larges bool) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	steps := 30_000
	if testing.Short() || testkit.Race {
		steps = 8_000
	}
	others := make(chan unsafe.Pointer, 100)
	run := func(ws []*traceWorker, n int) {
		var wg sync.WaitGroup
		for _, w := range ws {
			wg.Go(func() {
				for range n {
					w.step(others)
				}
			})
		}
		wg.Wait()
	}
	var ws []*traceWorker
	for i := range uint64(4) {
		ws = append(ws, newTraceWorker(i, nil))
		ws[i].larges = larges
	}
	text := traced(t, func() {
		for _, w := range ws {
			w.h = hakmem.NewHeap()
		}
		run(ws, steps)
	})
	r := mustReplay(t, text)
	want := map[byte]int{}
	held := map[uint64]bool{}
	for _, w := range ws {
		for op, n := range w.count {
			want[op] += n
		}
		for _, p := range w.held {
			held[traceID(p)] = true
		}
	}
	for len(others) > 0 {
		p := <-others
		held[traceID(p)] = true
		ws[0].held = append(ws[0].held, p)
	}
	if !reflect.DeepEqual(r.count, want) || r.unknown != 0 {
		t.Errorf("lines of each kind %v, calls %v; %d unknown blocks freed", r.count, want, r.unknown)
	}
	for id := range held {
		if _, ok := r.live[id]; !ok {
			t.Errorf("block %x is held and not live in the trace", id)
		}
	}
	if len(held) != len(r.live) {
		t.Errorf("%d blocks held, %d live in the trace", len(held), len(r.live))
	}
	for _, w := range ws {
		for _, p := range w.held { // frees of traced blocks after the trace
			w.h.Free(p)
		}
		w.h.Close()
	}
}

// afterBytes is a writer that closes done when it has received n bytes and that many lines.
type afterBytes struct {
	bytes.Buffer
	n, lines int
	done     chan struct{}
}

func (w *afterBytes) Write(b []byte) (int, error) {
	w.Buffer.Write(b)
	w.n -= len(b)
	w.lines -= bytes.Count(b, []byte{'\n'})
	if w.n <= 0 && w.lines <= 0 && w.done != nil {
		close(w.done)
		w.done = nil
	}
	return len(b), nil
}

// TestTraceStartStopUnderLoad checks that a trace can be replayed, whatever is going on when it
// begins and ends. Half of the Heaps are older than the traces.
func TestTraceStartStopUnderLoad(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	rounds := 25
	var texts []string
	if testing.Short() || testkit.Race {
		rounds = 12
	}
	others := make(chan unsafe.Pointer, 100)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range uint64(4) {
		wg.Go(func() {
			w := newTraceWorker(i, hakmem.NewHeap())
			for n := 0; !stop.Load(); n++ {
				w.step(others)
				if n%500 == 0 && i%2 == 0 {
					w.h.Close()
					w.h = hakmem.NewHeap()
				}
			}
			for _, p := range w.held {
				w.h.Free(p)
			}
			w.h.Close()
		})
	}
	for i := range rounds {
		done := make(chan struct{})
		w := &afterBytes{n: i * 5000, done: done}
		if err := hakmem.StartTrace(w); err != nil {
			t.Fatal(err)
		}
		<-done
		if i%5 == 4 {
			hakmem.Trim()
		}
		if err := hakmem.StopTrace(); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, w.String())
	}
	stop.Store(true)
	wg.Wait()
	for i, text := range texts {
		if r := mustReplay(t, text); i > 0 && (r.count['a'] == 0 || r.count['f'] == 0) {
			t.Errorf("round %d: lines %v", i, r.count)
		}
	}
	for len(others) > 0 {
		hakmem.Free(<-others)
	}
}

// heapOnTrap reports whether the Heap's fast paths have the trap front.
func heapOnTrap(h *hakmem.Heap) bool {
	return engine.Front(reflect.ValueOf(h).Elem().FieldByName("front").Uint()) == engine.TrapFront()
}

// TestTraceEndsFast checks that after StopTrace the fast paths serve calls again.
func TestTraceEndsFast(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	before := hakmem.NewHeap()
	defer before.Close()
	hakmem.Free(hakmem.Malloc(16))
	slow := engine.OnTrap() // always, where nothing can be pinned
	for range 3 {
		var during *hakmem.Heap
		var p unsafe.Pointer
		traced(t, func() {
			p = hakmem.Malloc(16)
			during = hakmem.NewHeap()
			before.Free(during.Malloc(16))
			hakmem.Free(during.Malloc(4000))
			if !engine.OnTrap() || !heapOnTrap(before) || !heapOnTrap(during) {
				t.Error("a front is in use while calls are traced")
			}
		})
		fronts := workout.ReadStats().Fronts
		hakmem.Free(p)
		hakmem.Free(hakmem.Malloc(16))
		for _, h := range []*hakmem.Heap{before, during} {
			h.Free(h.Malloc(16))
			if heapOnTrap(h) && !testkit.Race && !asan.On { // where Heaps have no fast path
				t.Error("a Heap is still on the slow path")
			}
		}
		if engine.OnTrap() != slow {
			t.Error("the P is still on the slow path")
		}
		got := workout.ReadStats().Fronts
		during.Close()
		if slow {
			continue // there the address of the stack decides on the front, so Malloc and Free may have two
		}
		if got > fronts+1 {
			t.Errorf("%d fronts, after the trace %d", got, fronts)
		}
		hakmem.Free(hakmem.Malloc(16))
		s := workout.ReadStats()
		for range 1000 {
			hakmem.Free(hakmem.Malloc(16))
		}
		if now := workout.ReadStats(); now.Classes[0].Misses != s.Classes[0].Misses || now.Classes[0].Flushes != s.Classes[0].Flushes {
			t.Errorf("turns within the magazine: %+v, before %+v", now.Classes[0], s.Classes[0])
		}
	}
}

// TestTraceStates checks that a second trace is refused, and that StopTrace without a trace does
// nothing.
func TestTraceStates(t *testing.T) {
	if err := hakmem.StopTrace(); err != nil {
		t.Errorf("StopTrace without a trace: %v", err)
	}
	text := traced(t, func() {
		var b bytes.Buffer
		if err := hakmem.StartTrace(&b); err == nil || b.Len() > 0 {
			t.Errorf("a second StartTrace: %v, and wrote %q", err, &b)
		}
		hakmem.Free(hakmem.Malloc(1))
	})
	if r := mustReplay(t, text); r.count['a'] != 1 || r.count['f'] != 1 {
		t.Errorf("lines %v", r.count)
	}
	hakmem.Free(hakmem.Malloc(1))
	if err := hakmem.StopTrace(); err != nil {
		t.Errorf("a second StopTrace: %v", err)
	}
}

// TestTraceIsWrittenSoon checks that lines are written although no further lines come.
func TestTraceIsWrittenSoon(t *testing.T) {
	const n = 1000 // enough that the last lines wait for the timer
	for range 2 {  // the second trace uses the same timer again
		done := make(chan struct{})
		w := &afterBytes{lines: 1 + 2*n + 1, done: done}
		if err := hakmem.StartTrace(w); err != nil {
			t.Fatal(err)
		}
		for range n {
			hakmem.Free(hakmem.Malloc(1))
		}
		p := hakmem.Malloc(1)
		<-done
		hakmem.Free(p)
		if err := hakmem.StopTrace(); err != nil {
			t.Fatal(err)
		}
		if r := mustReplay(t, w.String()); r.count['a'] != n+1 || r.count['f'] != n+1 {
			t.Errorf("lines %v", r.count)
		}
	}
}

func TestTraceWithoutGoAllocations(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; there instrumented code allocates from Go's heap")
	}
	if testkit.Race {
		t.Skip("skipped: -race; its instrumentation may allocate")
	}
	if err := hakmem.StartTrace(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer hakmem.StopTrace()
	noGoAllocs(t, "traced calls", func() {
		for range 100 { // enough for several writes
			p := hakmem.Realloc(hakmem.Calloc(1, 100), 5000)
			hakmem.Free(p)
			hakmem.Free(hakmem.AlignedAlloc(64, 64))
		}
	})
}

// failingWriter accepts a number of writes, and then fails in the way that its fields say.
type failingWriter struct {
	left  int
	short bool
	calls int
}

var errWriter = errors.New("the writer is full")

func (w *failingWriter) Write(b []byte) (int, error) {
	w.calls++
	if w.left--; w.left >= 0 {
		return len(b), nil
	}
	if w.short {
		return len(b) / 2, nil
	}
	return 0, errWriter
}

var _ = testkit.Child("trace write errors", traceWriteErrors)

// traceWriteErrors runs in a process of its own, because Err keeps the errors.
func traceWriteErrors(string) error {
	h := hakmem.NewHeap()
	for _, w := range []*failingWriter{{left: 0}, {left: 1}, {left: 4}, {left: 0, short: true}, {left: 2, short: true}} {
		want, writes := errWriter, w.left+1
		if w.short {
			want = io.ErrShortWrite
		}
		err := hakmem.StartTrace(w)
		if (err != nil) != (w.calls == writes) {
			return fmt.Errorf("StartTrace = %w after %d writes", err, w.calls)
		}
		for range 20_000 {
			hakmem.Free(hakmem.Malloc(100))
			h.Free(h.Malloc(100))
		}
		if engine.Watching(engine.WatchCalls) {
			return errors.New("calls are slow after the writer has failed")
		}
		if w.calls != writes {
			return fmt.Errorf("the writer failed at call %d and was called %d times", writes, w.calls)
		}
		if err == nil {
			if err := hakmem.StartTrace(io.Discard); err == nil {
				return errors.New("StartTrace before StopTrace")
			}
			err = hakmem.StopTrace()
		}
		if !errors.Is(err, want) {
			return fmt.Errorf("the error is %w, want %w", err, want)
		}
		if !errors.Is(hakmem.Err(), want) || len(workout.ReadStats().Errors) == 0 {
			return fmt.Errorf("Err() = %w, Stats.Errors = %v", hakmem.Err(), workout.ReadStats().Errors)
		}
		if err := hakmem.StopTrace(); err != nil {
			return fmt.Errorf("a second StopTrace: %w", err)
		}
	}
	h.Close()
	return workout.NothingLost()
}

func TestTraceWriteErrors(t *testing.T) { testkit.InChild(t, "trace write errors", "") }

var _ = testkit.Child("trace setting", traceSetting)

// traceSetting makes 1000 calls of each kind, some of them through a Heap.
func traceSetting(string) error {
	h := hakmem.NewHeap()
	for range 500 {
		hakmem.Free(h.Malloc(100))
		h.Free(hakmem.Malloc(100))
	}
	return nil
}

var _ = testkit.Child("trace setting, short", traceSettingShort)

// traceSettingShort makes two calls. Both must be in the trace, whenever the process ends.
func traceSettingShort(string) error {
	hakmem.Free(hakmem.Malloc(100))
	return nil
}

var (
	_ = testkit.Child("trace setting, never used", func(string) error { return nil })
	_ = testkit.Child("trace setting, stopped", func(s string) error { return errors.Join(traceSetting(s), hakmem.StopTrace()) })
	_ = testkit.Child("trace setting refused", traceSettingRefused)
)

func traceSettingRefused(why string) error {
	for range 1000 {
		hakmem.Free(hakmem.Malloc(100))
	}
	err := hakmem.StopTrace()
	if err == nil || !strings.Contains(err.Error(), why) || !errors.Is(hakmem.Err(), err) {
		return fmt.Errorf("StopTrace() = %w, Err() = %w", err, hakmem.Err())
	}
	return workout.NothingLost()
}

// TestTraceSetting checks that HAKMEM_TRACE traces from the first call on. When the process simply
// ends, the file has only whole lines, and nearly all of them.
func TestTraceSetting(t *testing.T) {
	path := filepath.Join(testkit.TempDir(t), "trace")
	setting := "HAKMEM_TRACE=" + path
	read := func() map[byte]int {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return mustReplay(t, string(text)).count
	}
	testkit.InChild(t, "trace setting, never used", "", setting)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a process that made no call left a trace: %v", err)
	}
	testkit.InChild(t, "trace setting", "", setting)
	if n := read(); n['a'] < 970 || n['f'] < 970 || n['a'] > 1000 {
		t.Errorf("ended without StopTrace: lines %v, want most of 1000", n)
	}
	testkit.InChild(t, "trace setting, short", "", setting)
	if n := read(); n['a'] != 1 || n['f'] != 1 {
		t.Errorf("two calls, and ended without StopTrace: lines %v", n)
	}
	testkit.InChild(t, "trace setting, stopped", "", setting)
	if n := read(); n['a'] != 1000 || n['f'] != 1000 {
		t.Errorf("ended by StopTrace: lines %v, want 1000", n)
	}
	testkit.InChild(t, "trace setting refused", "no such place", "HAKMEM_TRACE="+filepath.Join(testkit.TempDir(t), "no such place", "trace"))
	// A file that is not a trace is left alone. A trace of another version is replaced.
	for _, text := range []string{"notes", "hakmem  trace 1\n", "hakmem trac"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		testkit.InChild(t, "trace setting refused", "something else than a trace; name another file", setting)
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("a file with %q has now %.40q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "hakmem trace 9\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		testkit.InChild(t, "trace setting, stopped", "", setting)
		if n := read(); n['a'] != 1000 {
			t.Errorf("over a file with %q: lines %v, want 1000", text, n)
		}
	}
}

func ExampleStartTrace() {
	var b bytes.Buffer // or a file
	if err := hakmem.StartTrace(&b); err != nil {
		fmt.Println(err)
		return
	}
	p := hakmem.Malloc(100)
	q := hakmem.Calloc(10, 8)
	q = hakmem.Realloc(q, 1000)
	hakmem.Free(p)
	hakmem.Free(q)
	if err := hakmem.StopTrace(); err != nil {
		fmt.Println(err)
	}
	var ops []string
	for line := range strings.Lines(b.String()) {
		ops = append(ops, line[:1])
	}
	fmt.Println(slices.Collect(strings.Lines(b.String()))[0], ops[1:])
	// Output:
	// hakmem trace 1
	//  [a z r f f]
}
