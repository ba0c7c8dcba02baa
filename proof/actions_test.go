package proof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// action is one operation of a machine.
type action struct {
	name string
	of   group
	// reaches names the functions and methods of hakmem that it calls; a test compares them with
	// the exported functions.
	reaches []string
	// do performs the action. It returns false if the machine's state does not allow it.
	do func(*machine) bool
}

// group says what an action is about; a fuzz target takes a few of them.
type group int

const (
	global group = 1 << iota
	private
	arenas
	typed
	world
	misuse
	slow // takes milliseconds: in no fuzz target
)

// actions are all actions. A new one goes to the end, because seeds of fuzz targets name an action
// by its index among those of the target.
var actions = []action{
	{"malloc", global, []string{"Malloc"}, func(m *machine) bool {
		return m.allocate(want{op: "Malloc", size: m.anySize(), exact: true}, func(w want) unsafe.Pointer { return hakmem.Malloc(w.size) })
	}},
	{"malloc at", global, []string{"MallocAt"}, func(m *machine) bool {
		w := want{op: "MallocAt", size: m.anySize(), exact: true, site: m.sites[m.choose("site", len(m.sites))]}
		return m.allocate(w, func(w want) unsafe.Pointer { return hakmem.MallocAt(w.site, w.size) })
	}},
	{"calloc", global, []string{"Calloc"}, func(m *machine) bool {
		n := uintptr(m.choose("elements", 9))
		size := m.anySize() / max(n, 1)
		return m.allocate(want{op: "Calloc", size: n * size, exact: true, zero: true}, func(want) unsafe.Pointer { return hakmem.Calloc(n, size) })
	}},
	{"aligned alloc", global, []string{"AlignedAlloc"}, func(m *machine) bool {
		w := want{op: "AlignedAlloc", align: 1 << m.choose("alignment", 22), size: m.anySize()}
		return m.allocate(w, func(w want) unsafe.Pointer { return hakmem.AlignedAlloc(w.align, w.size) })
	}},
	{"realloc", global, []string{"Realloc"}, func(m *machine) bool { return m.realloc("Realloc", 1, hakmem.Realloc) }},
	{"free", global, []string{"Free"}, func(m *machine) bool { return m.free(hakmem.Free) }},
	{"usable size", global, []string{"UsableSize", "GoodSize", "SizeClasses"}, (*machine).usableSizes},
	{"many of a size", global, []string{"Malloc"}, (*machine).many},
	{"free many", global, []string{"Free"}, (*machine).freeMany},

	{"new heap", private, []string{"NewHeap"}, func(m *machine) bool {
		if len(m.heaps) == maxHandles {
			return false
		}
		m.do(func() { m.heaps = append(m.heaps, m.newHeap()) })
		return true
	}},
	{"close heap", private, []string{"Heap.Close"}, func(m *machine) bool {
		if len(m.heaps) == 0 {
			return false
		}
		m.closeHeap(m.choose("heap", len(m.heaps)))
		return true
	}},
	{"heap trim", private, []string{"Heap.Trim"}, func(m *machine) bool {
		h := m.heap()
		m.do(h.Trim)
		return true
	}},
	{"heap malloc", private, []string{"Heap.Malloc"}, func(m *machine) bool {
		h := m.heap()
		return m.allocate(want{op: "Heap.Malloc", size: m.anySize(), exact: true}, func(w want) unsafe.Pointer { return h.Malloc(w.size) })
	}},
	{"heap calloc", private, []string{"Heap.Calloc"}, func(m *machine) bool {
		h := m.heap()
		return m.allocate(want{op: "Heap.Calloc", size: m.anySize(), exact: true, zero: true}, func(w want) unsafe.Pointer { return h.Calloc(1, w.size) })
	}},
	{"heap realloc", private, []string{"Heap.Realloc"}, func(m *machine) bool { return m.realloc("Heap.Realloc", 1, m.heap().Realloc) }},
	{"heap free", private, []string{"Heap.Free"}, func(m *machine) bool { return m.free(m.heap().Free) }},

	{"new arena", arenas, []string{"NewArena"}, func(m *machine) bool {
		if len(m.arenas) == maxHandles {
			return false
		}
		m.arenas = append(m.arenas, &arena{a: hakmem.NewArena()})
		return true
	}},
	{"arena alloc", arenas, []string{"Arena.Alloc"}, func(m *machine) bool {
		n, align := m.anySize(), uintptr(1)<<m.choose("alignment", 17)
		return m.cut("Arena.Alloc", n, align, false, func(a *hakmem.Arena) unsafe.Pointer { return a.Alloc(n, align) })
	}},
	{"new in", arenas, []string{"NewIn"}, func(m *machine) bool {
		return m.cut("NewIn", unsafe.Sizeof(record{}), 8, true, func(a *hakmem.Arena) unsafe.Pointer { return unsafe.Pointer(hakmem.NewIn[record](a)) })
	}},
	{"make slice in", arenas, []string{"MakeSliceIn"}, func(m *machine) bool {
		n := int(m.anySize()) / 4
		return m.cut("MakeSliceIn", uintptr(n)*4, 4, true, func(a *hakmem.Arena) unsafe.Pointer {
			s := hakmem.MakeSliceIn[int32](a, n/2, n)
			if len(s) != n/2 || cap(s) != n {
				m.Fatalf("MakeSliceIn(%d, %d): length %d, capacity %d", n/2, n, len(s), cap(s))
			}
			return unsafe.Pointer(unsafe.SliceData(s))
		})
	}},
	{"reset arena", arenas, []string{"Arena.Reset"}, func(m *machine) bool {
		if len(m.arenas) == 0 {
			return false
		}
		a := m.arenas[m.choose("arena", len(m.arenas))]
		m.clear(a)
		a.a.Reset()
		return true
	}},
	{"close arena", arenas, []string{"Arena.Close"}, func(m *machine) bool {
		if len(m.arenas) == 0 {
			return false
		}
		m.closeArena(m.choose("arena", len(m.arenas)))
		return true
	}},

	{"alloc", typed, []string{"Alloc"}, func(m *machine) bool { return m.allocBytes(want{op: "Alloc"}, hakmem.Alloc) }},
	{"alloc zeroed", typed, []string{"AllocZeroed"}, func(m *machine) bool { return m.allocBytes(want{op: "AllocZeroed", zero: true}, hakmem.AllocZeroed) }},
	{"new", typed, []string{"New"}, func(m *machine) bool {
		switch m.choose("type", 4) {
		case 0:
			return m.newOf("New[record]", unsafe.Sizeof(record{}), func() unsafe.Pointer { return unsafe.Pointer(hakmem.New[record]()) })
		case 1:
			return m.newOf("New[struct{}]", 0, func() unsafe.Pointer { return unsafe.Pointer(hakmem.New[struct{}]()) })
		case 2:
			return m.newOf("New[[3000]byte]", 3000, func() unsafe.Pointer { return unsafe.Pointer(hakmem.New[[3000]byte]()) })
		}
		return m.newOf("New[[10000]int64]", 80000, func() unsafe.Pointer { return unsafe.Pointer(hakmem.New[[10000]int64]()) })
	}},
	{"make slice", typed, []string{"MakeSlice"}, func(m *machine) bool {
		n := int(m.anySize() / unsafe.Sizeof(record{}))
		return m.newOf("MakeSlice", uintptr(n)*unsafe.Sizeof(record{}), func() unsafe.Pointer {
			s := hakmem.MakeSlice[record](n/3, n)
			if len(s) != n/3 || cap(s) != n || s == nil {
				m.Fatalf("MakeSlice(%d, %d): length %d, capacity %d", n/3, n, len(s), cap(s))
			}
			return unsafe.Pointer(unsafe.SliceData(s))
		})
	}},
	{"free bytes", typed, []string{"FreeBytes"}, func(m *machine) bool {
		return m.free(func(p unsafe.Pointer) { hakmem.FreeBytes(sliceAt[byte](p)[:0]) })
	}},
	{"delete", typed, []string{"Delete"}, func(m *machine) bool {
		return m.free(func(p unsafe.Pointer) { hakmem.Delete((*byte)(p)) })
	}},
	{"free slice", typed, []string{"FreeSlice"}, func(m *machine) bool {
		return m.free(func(p unsafe.Pointer) { hakmem.FreeSlice(sliceAt[int8](p)) })
	}},

	{"trim", world, []string{"Trim"}, (*machine).trim},
	{"check invariants", world, []string{"CheckInvariants"}, func(m *machine) bool {
		if err := hakmem.CheckInvariants(); err != nil {
			m.Fatalf("%v", err)
		}
		return true
	}},
	{"statistics", world, []string{"ReadStats", "WriteStats", "Stats.Figures", "Err", "LiveBlocks", "LiveBlock.Pointer", "ReadRegion"}, (*machine).statistics},
	{"free in a walk", world, []string{"LiveBlocks", "LiveBlock.Pointer", "Free"}, (*machine).freeInAWalk},
	{"memory limit", world, []string{"SetMemoryLimit", "SwapMemoryLimit", "MemoryLimit", "Counted"}, (*machine).limits},
	{"time", world, nil, func(m *machine) bool {
		d := windows[m.choose("time", len(windows))]
		m.elsewhere(func() { m.clock.Advance(d) })
		return true
	}},
	{"GOMAXPROCS", world, nil, func(m *machine) bool {
		runtime.GOMAXPROCS([]int{1, 2, 3, 7, 16, 64}[m.choose("Ps", 6)])
		return true
	}},
	{"trace", world, []string{"StartTrace", "StopTrace"}, (*machine).trace},
	{"site", world, []string{"RegisterSite"}, func(m *machine) bool {
		for i, name := range []string{"proof a", "proof b"} {
			if s := hakmem.RegisterSite(name); s != m.sites[i] {
				m.Fatalf("site %q is %d, and was %d", name, s, m.sites[i])
			}
		}
		return true
	}},
	{"configure", world, []string{"Configure"}, func(m *machine) bool {
		m.mustChangeNothing("Configure", func() {
			if err := hakmem.Configure(hakmem.Options{Refill: 3, Harden: hakmem.ToggleOn}); !errors.Is(err, hakmem.ErrConfigured) {
				m.Fatalf("Configure of an allocator in use: %v", err)
			}
		})
		return true
	}},
	{"catch faults", world, []string{"CatchFaults", "MisuseError.Stacks", "MisuseError.Error"}, (*machine).catchFaults},

	{"stale pointer", misuse, takers, (*machine).useStale},
	{"interior pointer", misuse, takers, (*machine).useInterior},
	{"foreign pointer", misuse, takers, (*machine).useForeign},
	{"arena memory", misuse, takers, (*machine).useArenaMemory},
	{"closed handle", misuse, []string{"Heap.Close", "Heap.Malloc", "Heap.Calloc", "Heap.Realloc", "Heap.Free", "Heap.Trim", "Arena.Close", "Arena.Reset", "Arena.Alloc"}, (*machine).useClosed},
	{"bad arguments", misuse, []string{"AlignedAlloc", "AlignedRealloc", "AlignedCalloc", "AlignedReallocZeroed", "AlignedAllocAt", "CallocAt", "AllocAt", "MakeSliceAt", "Grow", "Append", "MallocAt", "Alloc", "AllocZeroed", "MakeSlice", "New", "NewIn", "MakeSliceIn", "Arena.Alloc", "SetMemoryLimit", "SwapMemoryLimit"}, (*machine).badArguments},
	{"too much", misuse, []string{"Malloc", "Calloc", "MallocAt", "AlignedAlloc", "Realloc", "Heap.Malloc", "Alloc", "MakeSlice", "OutOfMemoryError.Error", "OutOfMemoryError.Unwrap"}, (*machine).tooMuch},
	{"overflow", misuse, []string{"Free", "UsableSize", "Realloc", "Trim"}, (*machine).overflow},
	{"drop heap", slow, []string{"ReadStats"}, (*machine).dropHeap},
	{"aligned realloc", global, []string{"AlignedRealloc"}, func(m *machine) bool {
		align := uintptr(1) << m.choose("alignment", 22)
		return m.realloc("AlignedRealloc", align, func(p unsafe.Pointer, size uintptr) unsafe.Pointer { return hakmem.AlignedRealloc(p, size, align) })
	}},
	{"policy", world, []string{"ExportPolicy", "ImportPolicy", "Explain", "WriteBoard"}, (*machine).policy},
	{"site rule", global, []string{"SetSiteRule", "ReadSiteRule", "Lane.String", "Touch.String"}, (*machine).siteRule},
	{"calloc at", global, []string{"CallocAt"}, func(m *machine) bool {
		w := want{op: "CallocAt", size: m.anySize(), exact: true, zero: true, site: m.sites[m.choose("site", len(m.sites))]}
		return m.allocate(w, func(w want) unsafe.Pointer { return hakmem.CallocAt(w.site, 1, w.size) })
	}},
	{"aligned alloc at", global, []string{"AlignedAllocAt"}, func(m *machine) bool {
		w := want{op: "AlignedAllocAt", align: 1 << m.choose("alignment", 22), size: m.anySize(), site: m.sites[m.choose("site", len(m.sites))]}
		return m.allocate(w, func(w want) unsafe.Pointer { return hakmem.AlignedAllocAt(w.site, w.align, w.size) })
	}},
	{"aligned calloc", global, []string{"AlignedCalloc"}, func(m *machine) bool {
		w := want{op: "AlignedCalloc", align: 1 << m.choose("alignment", 22), size: m.anySize(), zero: true}
		return m.allocate(w, func(w want) unsafe.Pointer { return hakmem.AlignedCalloc(w.align, w.size) })
	}},
	{"realloc zeroed", global, []string{"ReallocZeroed"}, func(m *machine) bool {
		return m.realloc("ReallocZeroed", 1, zeroing(hakmem.ReallocZeroed))
	}},
	{"aligned realloc zeroed", global, []string{"AlignedReallocZeroed"}, func(m *machine) bool {
		align := uintptr(1) << m.choose("alignment", 22)
		return m.realloc("AlignedReallocZeroed", align, zeroing(func(p unsafe.Pointer, oldLen, n uintptr) unsafe.Pointer {
			return hakmem.AlignedReallocZeroed(p, oldLen, n, align)
		}))
	}},
	{"alloc at", typed, []string{"AllocAt"}, func(m *machine) bool {
		s := m.sites[m.choose("site", len(m.sites))]
		return m.allocBytes(want{op: "AllocAt", site: s}, func(n int) []byte { return hakmem.AllocAt(s, n) })
	}},
	{"make slice at", typed, []string{"MakeSliceAt"}, func(m *machine) bool {
		s := m.sites[m.choose("site", len(m.sites))]
		return m.allocBytes(want{op: "MakeSliceAt", site: s, zero: true}, func(n int) []byte { return hakmem.MakeSliceAt[byte](s, n, n) })
	}},
	{"grow a slice", typed, []string{"Append", "Grow", "Clip"}, (*machine).growSlice},
	{"addresses", world, []string{"Owns", "Foreign", "Pointer", "ExplainAddress", "PointerFree"}, (*machine).addresses},
	{"new arena at", arenas, []string{"NewArenaAt"}, func(m *machine) bool {
		if len(m.arenas) == maxHandles {
			return false
		}
		m.arenas = append(m.arenas, &arena{a: hakmem.NewArenaAt(m.sites[m.choose("site", len(m.sites))])})
		return true
	}},
}

// zeroing returns a function that calls realloc, which is to keep the whole block and to put zeroes behind it, and
// that panics if these are not zero.
func zeroing(realloc func(p unsafe.Pointer, oldLen, n uintptr) unsafe.Pointer) func(unsafe.Pointer, uintptr) unsafe.Pointer {
	return func(p unsafe.Pointer, n uintptr) unsafe.Pointer {
		had := hakmem.UsableSize(p)
		q := realloc(p, had, n)
		if q != nil && n > had && !isZero(unsafe.Add(q, had), n-had) {
			panic(fmt.Sprintf("of a block of %d bytes that has %d now, not all of the new ones are zero", had, n))
		}
		return q
	}
}

// growSlice lets a slice of a block's first bytes grow, or clips it.
func (m *machine) growSlice() bool {
	m.makeRoom()
	i, ok := m.pick()
	if !ok {
		return false
	}
	b := m.blocks[i]
	m.mustBeIntact(b)
	length := m.choose("length", int(b.usable)+1)
	s := unsafe.Slice((*byte)(b.p), b.usable)[:length]
	v := make([]byte, m.anySize())
	for j := range v {
		v[j] = byte(j) | 1
	}
	op := []string{"Append", "Grow", "Clip"}[m.choose("operation", 3)]
	p := m.orOutOfMemory(op, func() unsafe.Pointer {
		switch op {
		case "Append":
			s = hakmem.Append(s, v...)
			length += len(v)
		case "Grow":
			s = hakmem.Grow(s, len(v))
		case "Clip":
			s = hakmem.Clip(s)
		}
		return unsafe.Pointer(unsafe.SliceData(s))
	})
	if p == nil {
		m.failed(op, uintptr(len(v)))
		m.mustBeIntact(b)
		return true
	}
	kept := uintptr(length)
	if op == "Append" {
		kept -= uintptr(len(v))
	}
	switch {
	case len(s) != length || op == "Clip" && cap(s) != length || op == "Grow" && cap(s)-length < len(v):
		m.Fatalf("%s(%v) has length %d, want %d, and capacity %d", op, b, len(s), length, cap(s))
	case !intact(p, b.usable, kept, b.key) || op == "Append" && !bytes.Equal(s[kept:], v):
		m.Fatalf("%s(%v), length %d, lost the contents", op, b, kept)
	case op == "Grow" && uintptr(cap(s)) > b.usable && !isZeroBytes(s[:cap(s)][b.usable:]):
		m.Fatalf("%s(%v): not all that is new of %d bytes is zero", op, b, cap(s))
	}
	site := b.site
	m.dropped(i)
	if p == b.p {
		m.stale = m.stale[:len(m.stale)-1]
	}
	m.got(p, want{op: op, size: uintptr(cap(s)), site: site})
	return true
}

func isZeroBytes(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// addresses asks what is at addresses in and near blocks.
func (m *machine) addresses() bool {
	if hakmem.PointerFree[record]() != nil || hakmem.PointerFree[*record]() == nil {
		m.Fatalf("PointerFree of record: %v; of *record: %v", hakmem.PointerFree[record](), hakmem.PointerFree[*record]())
	}
	live := walked()
	near := append([]unsafe.Pointer{unsafe.Pointer(&globalBytes)}, m.stale...)
	for _, b := range m.byAddr {
		near = append(near, b.p)
	}
	m.mustChangeNothing("a question", func() {
		for range 20 {
			addr := uintptr(near[m.choose("block", len(near))]) + uintptr(m.choose("offset", 100_000)) - uintptr(m.choose("before", 2)*1000)
			in := slices.ContainsFunc(live, func(l hakmem.LiveBlock) bool { return addr >= l.Addr && addr-l.Addr < max(l.Size, 1) })
			var p unsafe.Pointer
			e, _ := workout.MisuseOf(func() { p = hakmem.Pointer(addr) })
			text := hakmem.ExplainAddress(addr)
			switch {
			case hakmem.Owns(testkit.Wild(nil, addr)) != in, (e == nil) != in, uintptr(p) != addr && in, strings.Contains(text, "which is live") != in:
				m.Fatalf("address %#x is in a live block: %v; Owns: %v, Pointer: %v %v, ExplainAddress: %s", addr, in, hakmem.Owns(testkit.Wild(nil, addr)), p, e, text)
			case hakmem.Foreign(testkit.Wild(nil, addr)) != strings.Contains(text, "not in memory that hakmem hands out"):
				m.Fatalf("address %#x is foreign: %v; ExplainAddress: %s", addr, hakmem.Foreign(testkit.Wild(nil, addr)), text)
			case m.at(addr) != nil && !in:
				m.Fatalf("address %#x is in %v, and not in a block of LiveBlocks", addr, m.at(addr))
			}
		}
	})
	return true
}

// sliceAt returns a slice that begins at p, nil for nil.
func sliceAt[T any](p unsafe.Pointer) []T {
	if p == nil {
		return nil
	}
	return unsafe.Slice((*T)(p), 1)
}

// record is a type without Go pointers whose size is not that of a class.
type record struct {
	a int64
	b [3]float32
	c uint8
}

// heap returns an open Heap; it makes one if there is none.
func (m *machine) heap() *hakmem.Heap {
	if len(m.heaps) == 0 {
		m.heaps = append(m.heaps, m.newHeap())
	}
	return m.heaps[m.choose("heap", len(m.heaps))]
}

// newHeap makes a Heap. Where the hard limit has no room for one it takes the limit away meanwhile.
func (m *machine) newHeap() (h *hakmem.Heap) {
	v := testkit.PanicOf(func() { h = hakmem.NewHeap() })
	if v == nil {
		return h
	}
	if _, ok := v.(*hakmem.OutOfMemoryError); !ok || !m.limit {
		panic(v)
	}
	soft, hard := hakmem.MemoryLimit()
	_ = hakmem.SetMemoryLimit(0, 0)
	defer hakmem.SetMemoryLimit(soft, hard)
	m.most += engine.FrontBytes // its front may stay beyond the limit, also when the Heap is closed
	return hakmem.NewHeap()
}

// droppedHeaps counts the dropped Heaps of all machines.
var droppedHeaps atomic.Uint64

// dropHeap drops a Heap without Close. The garbage collector finds it, the blocks in its magazines
// go back, and its live blocks stay.
func (m *machine) dropHeap() bool {
	if len(m.heaps) == 0 {
		return false
	}
	s := &m.after
	hakmem.ReadStats(s)
	fronts, want := s.Fronts, droppedHeaps.Add(1)
	i := m.choose("heap", len(m.heaps))
	m.heaps = slices.Delete(m.heaps, i, i+1)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Microsecond) {
		runtime.GC()
		hakmem.ReadStats(s)
		if s.Abandoned.Heaps == want && s.Fronts == fronts-1 {
			return true
		}
		if time.Now().After(deadline) {
			m.Fatalf("a minute after a Heap was dropped: %+v, %d fronts, want %d and %d", s.Abandoned, s.Fronts, want, fronts-1)
		}
	}
}

func (m *machine) allocate(w want, call func(want) unsafe.Pointer) bool {
	m.makeRoom()
	var p unsafe.Pointer
	m.do(func() { p = call(w) })
	m.got(p, w)
	return true
}

func (m *machine) free(free func(unsafe.Pointer)) bool {
	i, ok := m.pick()
	if !ok {
		return false
	}
	m.do(func() { free(nil) })
	away := m.choose("goroutine", 4) > 0
	m.drop(i, func(p unsafe.Pointer) {
		if away {
			m.elsewhere(func() { free(p) })
			return
		}
		free(p)
	})
	return true
}

func (m *machine) realloc(op string, align uintptr, call func(unsafe.Pointer, uintptr) unsafe.Pointer) bool {
	m.makeRoom()
	i, ok := m.pick()
	w := want{op: op, size: m.anySize(), align: align}
	if !ok {
		w.exact = align == 1
		return m.allocate(w, func(w want) unsafe.Pointer { return call(nil, w.size) })
	}
	b := m.blocks[i]
	m.mustBeIntact(b)
	w.site = b.site
	var p unsafe.Pointer
	m.do(func() { p = call(b.p, w.size) })
	if p == nil {
		m.got(nil, w)
		m.mustBeIntact(b)
		return true
	}
	if !intact(p, b.usable, min(b.usable, w.size), b.key) {
		m.Fatalf("%s(%v, %d) = %p lost the contents", op, b, w.size, p)
	}
	m.dropped(i)
	if p == b.p {
		m.stale = m.stale[:len(m.stale)-1]
	}
	m.got(p, w)
	return true
}

func (m *machine) usableSizes() bool {
	classes := hakmem.SizeClasses()
	hakmem.ReadStats(&m.after)
	if !slices.IsSorted(classes) || len(classes) != len(m.after.Classes) {
		m.Fatalf("SizeClasses: %v; the statistics have %d", classes, len(m.after.Classes))
	}
	n := m.anySize()
	good := hakmem.GoodSize(n)
	if good < n || hakmem.GoodSize(good) != good || good <= 32<<10 && !slices.Contains(classes, int(good)) {
		m.Fatalf("GoodSize(%d) = %d, and of that %d", n, good, hakmem.GoodSize(good))
	}
	if n := hakmem.UsableSize(nil); n != 0 {
		m.Fatalf("UsableSize(nil) = %d", n)
	}
	for _, b := range m.blocks {
		if n := m.usable(b.p); n != b.usable {
			m.Fatalf("%v: UsableSize %d", b, n)
		}
	}
	return true
}

// many allocates blocks of one size, so that slabs are exhausted and magazines
// refilled.
func (m *machine) many() bool {
	m.makeRoom()
	size := m.anySize()
	// At most 4 MiB: beyond two superslabs nothing new happens except page faults.
	n := min(uintptr(m.choose("number", 500)), 4<<20/max(size, 1))
	for ; n > 0 && m.room(size); n-- {
		if m.got(hakmem.Malloc(size), want{op: "Malloc", size: size, exact: true}) == nil {
			break
		}
	}
	return true
}

// freeMany frees blocks of a range: some of them, with a stride, so that slabs stay sparse, or all.
func (m *machine) freeMany() bool {
	if len(m.blocks) == 0 {
		return false
	}
	from, n, stride := m.choose("block", len(m.blocks)), m.choose("number", 500), 1+m.choose("stride", 8)
	free := hakmem.Free
	if len(m.heaps) > 0 && n%2 == 1 {
		free = m.heaps[0].Free
	}
	for i := from; i < len(m.blocks) && n > 0; n-- {
		m.drop(i, free)
		i += stride - 1
	}
	return true
}

// cut takes a piece of n bytes from an Arena.
func (m *machine) cut(op string, n, align uintptr, zero bool, call func(*hakmem.Arena) unsafe.Pointer) bool {
	m.makeRoom()
	if len(m.arenas) == 0 {
		m.arenas = append(m.arenas, &arena{a: hakmem.NewArena()})
	}
	a := m.arenas[m.choose("arena", len(m.arenas))]
	p := m.orOutOfMemory(op, func() unsafe.Pointer { return call(a.a) })
	if p == nil {
		m.failed(op, n)
		return true
	}
	if uintptr(p)%align != 0 {
		m.Fatalf("%s(%d, %d) = %p", op, n, align, p)
	}
	if zero && !isZero(p, n) {
		m.Fatalf("%s: %d bytes at %p are not zero", op, n, p)
	}
	if n > 0 { // pieces of 0 bytes need not be unique
		m.add(&block{p: p, size: n, usable: n, arena: a})
	}
	return true
}

// orOutOfMemory calls a function that panics with *OutOfMemoryError where Malloc would return nil.
func (m *machine) orOutOfMemory(op string, call func() unsafe.Pointer) (p unsafe.Pointer) {
	v := testkit.PanicOf(func() { p = call() })
	if v == nil {
		return p
	}
	oom, ok := v.(*hakmem.OutOfMemoryError)
	if !ok || !m.limit {
		m.Fatalf("%s: panic: %v", op, v)
	}
	m.mustExplain(oom)
	return nil
}

func (m *machine) mustExplain(oom *hakmem.OutOfMemoryError) {
	if text := oom.Error(); !strings.Contains(text, "out of memory") || oom.Unwrap() != oom.Reason {
		m.Fatalf("error %q, reason %v", text, oom.Unwrap())
	}
}

func (m *machine) allocBytes(w want, call func(int) []byte) bool {
	m.makeRoom()
	n := m.anySize()
	p := m.orOutOfMemory(w.op, func() unsafe.Pointer {
		b := call(int(n))
		if len(b) != int(n) || cap(b) != int(n) || b == nil {
			m.Fatalf("%s(%d): length %d, capacity %d", w.op, n, len(b), cap(b))
		}
		return unsafe.Pointer(unsafe.SliceData(b))
	})
	w.size, w.exact = n, true
	m.got(p, w)
	return true
}

func (m *machine) newOf(op string, n uintptr, call func() unsafe.Pointer) bool {
	m.makeRoom()
	m.got(m.orOutOfMemory(op, call), want{op: op, size: n, exact: true, zero: true})
	return true
}

// trim checks that memory which no live block needs goes back, and nothing else.
func (m *machine) trim() bool {
	m.do(func() { hakmem.Trim() })
	s := &m.after
	hakmem.ReadStats(s)
	// Other goroutines of the process do not allocate, so only Heaps have
	// magazines now. (While P fronts are locked ones, there are none to empty.)
	if len(m.heaps) == 0 && (s.InMagazines != 0 || s.Large.CachedBlocks != 0) {
		m.Fatalf("after Trim, without a Heap: %d bytes in magazines, %d warm spans", s.InMagazines, s.Large.CachedBlocks)
	}
	if s.Scavenger.Dirty != 0 {
		m.Fatalf("after Trim: %d bytes are free and have their memory", s.Scavenger.Dirty)
	}
	if s.Fronts != len(m.heaps) {
		m.Fatalf("after Trim: %d fronts, %d open Heaps", s.Fronts, len(m.heaps))
	}
	m.check()
	return true
}

// policy exports what was learnt and imports it again. Neither touches a block.
func (m *machine) policy() bool {
	var file bytes.Buffer
	m.mustChangeNothing("a policy", func() {
		if err := hakmem.ExportPolicy(&file); err != nil {
			m.Fatalf("ExportPolicy: %v", err)
		}
		if err := hakmem.ImportPolicy(&file); err != nil {
			m.Fatalf("ImportPolicy: %v", err)
		}
		if err := hakmem.WriteBoard(io.Discard); err != nil {
			m.Fatalf("WriteBoard: %v", err)
		}
		if err := hakmem.Explain(io.Discard); err != nil {
			m.Fatalf("Explain: %v", err)
		}
	})
	return true
}

// siteRule sets the rule of a site. Blocks that live stay what they are.
func (m *machine) siteRule() bool {
	s := m.sites[m.choose("site", len(m.sites))]
	if s == 0 {
		return false
	}
	rule := hakmem.SiteRule{
		Lane:      hakmem.Lane(m.choose("lane", 3)),
		Touch:     hakmem.Touch(m.choose("touch", 4)),
		HoldScale: []float64{0, hakmem.ReturnAtOnce, 0.5, 1, 20}[m.choose("hold scale", 5)],
		WMax:      []float64{0, 1, 1.5}[m.choose("wmax", 3)],
		// A Class would make blocks larger than the books say.
	}
	hakmem.SetSiteRule(s, rule)
	set, now := hakmem.ReadSiteRule(s)
	if set != rule || rule.Lane != hakmem.LaneAuto && now != rule.Lane || now == hakmem.LaneAuto {
		m.Fatalf("site %d has the rule %+v, %v, now %v; %+v was set", s, set, set.Touch, now, rule)
	}
	return true
}

func (m *machine) statistics() bool {
	// check, which follows, compares them with the records. Here two readings must be equal.
	m.mustChangeNothing("WriteStats", func() {
		if err := hakmem.WriteStats(io.Discard); err != nil {
			m.Fatalf("WriteStats: %v", err)
		}
	})
	err, n := hakmem.Err(), len(m.after.Errors)
	if (err == nil) != (n == 0) {
		m.Fatalf("Err: %v; the statistics have %d errors", err, n)
	}
	for _, e := range m.after.Errors {
		if !errors.Is(err, e) {
			m.Fatalf("Err: %v lacks %v", err, e)
		}
	}
	var used, warm uint64
	for i, part := range hakmem.ReadRegion(nil) {
		if part.Used+part.Holes+part.Warm+part.Returned != hakmem.RegionPartBytes {
			m.Fatalf("ReadRegion: part %d is %+v, together not %d bytes", i, part, hakmem.RegionPartBytes)
		}
		used, warm = used+part.Used+part.Holes, warm+part.Warm
	}
	if c := &m.after.Scavenger; used != c.Used || warm > c.Dirty {
		m.Fatalf("ReadRegion: %d bytes are used and %d warm; the statistics have %d and %d", used, warm, c.Used, c.Dirty)
	}
	// The figures of the parts add up to those of the whole.
	values := map[string]float64{} // sums over the labels
	for f := range m.after.Figures() {
		values[f.Name] += f.Value
	}
	if all, parts := values["live_blocks"], values["class_live_blocks"]+values["large_live_blocks"]; all != parts || all != float64(m.after.LiveBlocks) {
		m.Fatalf("Figures: %v live blocks, %v in classes and large; the statistics have %d", all, parts, m.after.LiveBlocks)
	}
	return true
}

// freeInAWalk frees blocks in the body of LiveBlocks' loop.
func (m *machine) freeInAWalk() bool {
	if len(m.blocks) == 0 {
		return false
	}
	one := 1 + m.choose("one in", 8)
	n, gone := 0, map[unsafe.Pointer]bool{}
	for l := range hakmem.LiveBlocks() {
		if n++; l.Arena || n%one != 0 {
			continue
		}
		if b := m.at(l.Addr); b == nil || b.p != l.Pointer() || gone[b.p] {
			m.Fatalf("LiveBlocks yields %+v, in the books there is %v, freed by this loop: %v", l, b, gone[l.Pointer()])
		} else {
			m.mustBeIntact(b)
		}
		hakmem.Free(l.Pointer())
		gone[l.Pointer()] = true
	}
	for i := len(m.blocks) - 1; i >= 0; i-- {
		if gone[m.blocks[i].p] {
			m.dropped(i)
		}
	}
	return true
}

func (m *machine) limits() bool {
	const page = 64 << 10
	soft, hard := uint64(m.choose("soft", 512))*page, uint64(0)
	if n := m.choose("hard", 1024); n >= 32 { // 2 MiB is the smallest limit
		hard = max(soft, uint64(n)*page)
	}
	wasSoft, wasHard := hakmem.MemoryLimit()
	if s, h, err := hakmem.SwapMemoryLimit(hard/2, hard); err != nil || s != wasSoft || h != wasHard {
		m.Fatalf("SwapMemoryLimit returned %d, %d, %v; MemoryLimit was %d, %d", s, h, err, wasSoft, wasHard)
	}
	if err := hakmem.SetMemoryLimit(soft, hard); err != nil {
		m.Fatalf("SetMemoryLimit(%d, %d): %v", soft, hard, err)
	}
	m.limited(hard)
	if hakmem.ReadStats(&m.after); hakmem.Counted() != m.after.Counted {
		m.Fatalf("Counted is %d, and Stats.Counted %d", hakmem.Counted(), m.after.Counted)
	}
	if s, h := hakmem.MemoryLimit(); s != soft || h != hard {
		m.Fatalf("MemoryLimit is %d, %d; SetMemoryLimit was given %d, %d", s, h, soft, hard)
	}
	return true
}

// traceText receives what a trace writes and keeps the first line.
type traceText struct{ bytes.Buffer }

func (w *traceText) Write(b []byte) (int, error) {
	if w.Len() < 64 {
		w.Buffer.Write(b)
	}
	return len(b), nil
}

// trace starts or stops a trace.
func (m *machine) trace() bool {
	if m.traced {
		if err := hakmem.StopTrace(); err != nil {
			m.Fatalf("StopTrace: %v", err)
		}
		m.traced = false
		return true
	}
	w := &traceText{}
	if err := hakmem.StartTrace(w); err != nil {
		m.Fatalf("StartTrace: %v", err)
	}
	m.traced = true
	if !strings.HasPrefix(w.String(), "hakmem trace 1\n") {
		m.Fatalf("a trace begins with %q", w.String())
	}
	if err := hakmem.StartTrace(w); err == nil {
		m.Fatalf("two traces at the same time")
	}
	return true
}

// sink keeps reads from being dropped.
var sink byte

func (m *machine) catchFaults() bool {
	if v := testkit.PanicOf(func() { hakmem.CatchFaults(func() { panic("mine") }) }); v != "mine" {
		m.Fatalf("CatchFaults passed a panic on as %v", v)
	}
	live := walked()
	hakmem.ReadStats(&m.after)
	if m.after.Guard.Live == 0 {
		return true
	}
	// A byte of the page after a guarded block. The second half of that page counts as before the
	// next block.
	b := live[len(live)-1-m.choose("guarded", int(m.after.Guard.Live))]
	page := uintptr(os.Getpagesize())
	off := (b.Addr+b.Size+page-1)&^(page-1) - b.Addr + page/4
	if b.Size == 0 { // its one page lies after it, or before it
		return true
	}
	var e *hakmem.MisuseError
	m.mustChangeNothing("a fault", func() {
		e, _ = workout.MisuseOf(func() { hakmem.CatchFaults(func() { sink += *(*byte)(testkit.Wild(b.Pointer(), off)) }) })
	})
	if e == nil || e.Kind != "buffer overflow" || e.Block != b.Addr || e.Class != b.Size || e.Offset != off ||
		!strings.Contains(e.Error(), "memory access") || !strings.Contains(e.Stacks(), "allocated by") {
		m.Fatalf("byte %d of %+v: %v", off, b, e)
	}
	return true
}

// mustChangeNothing calls f and checks that the statistics are as before. Page faults and resident
// memory are left out, because the tests themselves touch memory.
func (m *machine) mustChangeNothing(what string, f func()) {
	m.Helper()
	hakmem.ReadStats(&m.before)
	f()
	hakmem.ReadStats(&m.after)
	m.before.PageFaults, m.before.Timing = m.after.PageFaults, m.after.Timing
	m.before.Resident, m.before.ResidentBy = m.after.Resident, m.after.ResidentBy
	m.before.Budget = m.after.Budget                         // of Heaps used since a harvest: a call that is refused uses one, too
	m.before.Scavenger.HoldTime = m.after.Scavenger.HoldTime // pages may have been used since the last tick
	if reflect.DeepEqual(m.before, m.after) {
		return
	}
	x, y := reflect.ValueOf(m.before), reflect.ValueOf(m.after)
	var d []string
	for i := range x.NumField() {
		if u, v := x.Field(i).Interface(), y.Field(i).Interface(); !reflect.DeepEqual(u, v) {
			d = append(d, fmt.Sprintf("%s: %+v -> %+v", x.Type().Field(i).Name, u, v))
		}
	}
	m.Fatalf("%s changed %s", what, strings.Join(d, "; "))
}

// takers are the functions that take a pointer, as spelled in MisuseError.Op.
var takers = []string{"Free", "FreeBytes", "FreeSlice", "Delete", "UsableSize", "Realloc", "Heap.Free", "Heap.Realloc", "AlignedRealloc",
	"ReallocZeroed", "AlignedReallocZeroed", "Append", "Grow", "Clip", "MisuseError.Error", "MisuseError.Stacks"}

// take passes p to one of the takers.
func (m *machine) take(op string, h *hakmem.Heap, p unsafe.Pointer, size uintptr) {
	switch op {
	case "Free":
		hakmem.Free(p)
	case "FreeBytes":
		hakmem.FreeBytes(sliceAt[byte](p))
	case "FreeSlice":
		hakmem.FreeSlice(sliceAt[int8](p)[:0])
	case "Delete":
		hakmem.Delete((*bool)(p))
	case "UsableSize":
		hakmem.UsableSize(p)
	case "Realloc":
		hakmem.Realloc(p, size)
	case "Heap.Free":
		h.Free(p)
	case "Heap.Realloc":
		h.Realloc(p, size)
	case "AlignedRealloc":
		hakmem.AlignedRealloc(p, size, 256)
	case "ReallocZeroed":
		hakmem.ReallocZeroed(p, size/2, size)
	case "AlignedReallocZeroed":
		hakmem.AlignedReallocZeroed(p, size/2, size, 256)
	case "Append":
		hakmem.Append(sliceAt[int8](p), 1, 2, 3)
	case "Grow":
		hakmem.Grow(sliceAt[int8](p), int(size))
	case "Clip":
		hakmem.Clip(sliceAt[int8](p))
	}
}

const (
	freed    = "freed" // "double free" from a free, "use after free" from a use
	interior = "interior pointer"
	unalign  = "unaligned pointer"
	foreign  = "not hakmem's"
	never    = "never allocated"
	inArena  = "arena memory"
	wasArena = "memory of a closed arena"
)

// refuse passes the invalid pointer p to a taker. It expects a *MisuseError of one of the kinds,
// and that nothing changed. of is the live block that contains p, or nil.
func (m *machine) refuse(what string, p unsafe.Pointer, of *block, kinds ...string) {
	m.Helper()
	op := takers[m.choose("taker", 14)]
	size := []uintptr{0, 50, 500_000, 1 << 60}[m.choose("realloc to", 4)]
	var h *hakmem.Heap
	if strings.HasPrefix(op, "Heap.") {
		h = m.heap()
	}
	var e *hakmem.MisuseError
	var instead string
	m.mustChangeNothing(fmt.Sprintf("%s of %s %p", op, what, p), func() {
		e, instead = workout.MisuseOf(func() { m.take(op, h, p, size) })
	})
	if e == nil {
		m.Fatalf("%s of %s %p: %s", op, what, p, instead)
	}
	want := "use after free"
	switch op {
	case "Free", "Heap.Free", "FreeBytes", "FreeSlice", "Delete":
		want = "double free"
	}
	if e.Op != op || e.Addr != uintptr(p) || e.Late || !slices.Contains(kinds, e.Kind) && (e.Kind != want || !slices.Contains(kinds, freed)) {
		m.Fatalf("%s of %s %p: error %+v, want one of %q", op, what, p, *e, kinds)
	}
	if of != nil && (e.Block != uintptr(of.p) || e.Class < of.usable) {
		m.Fatalf("%s of %s %p: error %+v, it lies in %v", op, what, p, *e, of)
	}
	if text := e.Error(); !strings.Contains(text, op) || !strings.Contains(text, e.Kind) || !strings.Contains(text, fmt.Sprintf("%#x", uintptr(p))) {
		m.Fatalf("%s of %s %p: error %q lacks the operation, the kind or the address", op, what, p, text)
	}
	if text := e.Stacks(); (text == "") != (len(e.AllocStack) == 0) {
		m.Fatalf("%s of %s %p: stacks %q of %+v", op, what, p, text, *e)
	}
	if of != nil && of.arena == nil {
		m.mustBeIntact(of)
	}
}

// useStale passes a freed block to a function that must refuse it. If its address is that of a new
// block by now, the pointer is valid, and useStale does nothing.
func (m *machine) useStale() bool {
	if len(m.stale) == 0 {
		return false
	}
	p := m.stale[len(m.stale)-1-m.choose("stale", len(m.stale))]
	switch b := m.at(uintptr(p)); {
	case b == nil:
		m.refuse("freed", p, nil, freed, interior, never, inArena, wasArena)
	case b.arena != nil:
		m.refuse("freed, now an Arena's", p, nil, inArena)
	case b.p != p:
		m.refuse("freed, now another's inside", p, b, interior)
	default:
		return false
	}
	return true
}

func (m *machine) useInterior() bool {
	i, ok := m.pick()
	if !ok {
		return false
	}
	b := m.blocks[i]
	if b.usable < 2 {
		return false
	}
	off := uintptr(1 + m.choose("offset", int(b.usable)-1))
	if off%16 == 0 {
		m.refuse("inside", testkit.Wild(b.p, off), b, interior)
	} else {
		m.refuse("inside, unaligned", testkit.Wild(b.p, off), b, unalign)
	}
	return true
}

var globalBytes [64]byte

func (m *machine) useForeign() bool {
	var onStack [64]byte
	onHeap := make([]byte, 1<<10)
	b := &onStack[0]
	if i, ok := m.pick(); ok {
		b = (*byte)(m.blocks[i].p)
	}
	switch m.choose("foreign", 6) {
	case 0:
		m.refuse("the stack", unsafe.Pointer(&onStack[16]), nil, foreign)
	case 1:
		m.refuse("the Go heap", unsafe.Pointer(&onHeap[16]), nil, foreign)
	case 2:
		m.refuse("a global variable", unsafe.Pointer(&globalBytes[3]), nil, foreign)
	case 3:
		m.refuse("read-only data", unsafe.Pointer(unsafe.StringData("read-only data")), nil, foreign)
	case 4:
		m.refuse("a wild address", testkit.Wild(unsafe.Pointer(b), 1<<60), nil, foreign)
	case 5:
		m.refuse("the end of the address space", testkit.Wild(nil, uintptr(math.MaxUint-15)), nil, foreign)
	}
	runtime.KeepAlive(onHeap)
	return true
}

func (m *machine) useArenaMemory() bool {
	for _, a := range m.arenas {
		if len(a.pieces) == 0 {
			continue
		}
		b := a.pieces[m.choose("piece", len(a.pieces))]
		m.refuse("a piece of an Arena", b.p, nil, inArena, unalign)
		m.mustBeIntact(b)
		return true
	}
	return false
}

// mustRefuse calls f, which uses a handle that is closed or a copy, and expects a refusal.
func (m *machine) mustRefuse(op, kind string, f func()) {
	m.Helper()
	e, instead := workout.MisuseOf(f)
	if e == nil || e.Op != op || e.Kind != kind || e.Late || e.Addr == 0 || !strings.Contains(e.Error(), op) {
		m.Fatalf("%s of a %s: %s %+v", op, kind, instead, e)
	}
}

// firstChunk is more than what is left of an Arena's first chunk once the Arena is in use.
const firstChunk = 64 << 10

func (m *machine) useClosed() bool {
	h, a := m.newHeap(), hakmem.NewArena()
	b := hakmem.Malloc(100)
	if b == nil { // beyond the limit
		m.outOf++
	}
	copied := testkit.CopyOf(h)
	m.mustRefuse("Heap.Calloc", "copied heap", func() { copied.Calloc(1, 1) })
	m.mustRefuse("Heap.Realloc", "copied heap", func() { copied.Realloc(nil, 1) })
	m.mustRefuse("Heap.Trim", "copied heap", func() { copied.Trim() })
	m.mustRefuse("Heap.Close", "copied heap", func() { copied.Close() })
	if out := testkit.PanicOf(func() { a.Alloc(10, 1) }); out == nil { // within the limit
		b := testkit.CopyOf(a)
		m.mustRefuse("Arena.Alloc", "copied arena", func() { b.Alloc(firstChunk, 1) })
		m.mustRefuse("Arena.Reset", "copied arena", func() { b.Reset() })
		m.mustRefuse("Arena.Close", "copied arena", func() { b.Close() })
	} else {
		m.outOf++
	}
	h.Close()
	a.Close()
	m.mustChangeNothing("a closed handle", func() {
		m.mustRefuse("Heap.Malloc", "closed heap", func() { h.Malloc(10) })
		m.mustRefuse("Heap.Calloc", "closed heap", func() { h.Calloc(1, 10) })
		m.mustRefuse("Heap.Realloc", "closed heap", func() { h.Realloc(b, 10) })
		m.mustRefuse("Heap.Trim", "closed heap", func() { h.Trim() })
		m.mustRefuse("Heap.Close", "closed heap", func() { h.Close() })
		m.mustRefuse("Arena.Alloc", "closed arena", func() { a.Alloc(10, 1) })
		m.mustRefuse("Arena.Reset", "closed arena", func() { a.Reset() })
		m.mustRefuse("Arena.Close", "closed arena", func() { a.Close() })
		if b != nil {
			m.mustRefuse("Heap.Free", "closed heap", func() { h.Free(b) })
		}
	})
	hakmem.Free(b)
	return true
}

func (m *machine) badArguments() bool {
	if len(m.arenas) == 0 {
		m.arenas = append(m.arenas, &arena{a: hakmem.NewArena()})
	}
	a := m.arenas[0].a
	bad := []struct {
		call  func()
		names string
	}{
		{func() { hakmem.AlignedAlloc(0, 8) }, "alignment 0"},
		{func() { hakmem.AlignedAlloc(48, 8) }, "alignment 48"},
		{func() { hakmem.AlignedAlloc(4<<20, 8) }, "alignment 4194304"},
		{func() { hakmem.AlignedRealloc(nil, 8, 12) }, "AlignedRealloc: alignment 12"},
		{func() { hakmem.MallocAt(1<<31, 8) }, "site 2147483648"},
		{func() { hakmem.AlignedCalloc(3, 8) }, "AlignedCalloc: alignment 3"},
		{func() { hakmem.AlignedReallocZeroed(nil, 0, 8, 12) }, "AlignedReallocZeroed: alignment 12"},
		{func() { hakmem.AlignedAllocAt(0, 5, 8) }, "AlignedAllocAt: alignment 5"},
		{func() { hakmem.CallocAt(1<<31, 1, 8) }, "site 2147483648"},
		{func() { hakmem.AllocAt(0, -1) }, "AllocAt(-1)"},
		{func() { hakmem.MakeSliceAt[int32](0, 3, 2) }, "MakeSliceAt(3, 2)"},
		{func() { hakmem.Grow([]byte(nil), -1) }, "Grow(-1)"},
		{func() { hakmem.Append[string](nil, "") }, "string"},
		{func() { hakmem.Alloc(-1) }, "Alloc(-1)"},
		{func() { hakmem.AllocZeroed(-5) }, "AllocZeroed(-5)"},
		{func() { hakmem.MakeSlice[int32](-1, 4) }, "MakeSlice(-1, 4)"},
		{func() { hakmem.MakeSlice[int32](3, 2) }, "MakeSlice(3, 2)"},
		{func() { hakmem.MakeSlice[string](1, 1) }, "string"},
		{func() { hakmem.New[struct{ next *record }]() }, "next"},
		{func() { hakmem.NewIn[[]int](a) }, "[]int"},
		{func() { hakmem.MakeSliceIn[int8](a, 2, 1) }, "MakeSliceIn(2, 1)"},
		{func() { a.Alloc(8, 3) }, "alignment 3"},
		{func() { a.Alloc(8, 128<<10) }, "alignment 131072"},
	}
	x := bad[m.choose("bad", len(bad))]
	m.mustChangeNothing("bad arguments", func() {
		v := testkit.PanicOf(x.call)
		if text, ok := v.(string); !ok || !strings.Contains(text, x.names) {
			m.Fatalf("panic %v does not name %q", v, x.names)
		}
		soft, hard := hakmem.MemoryLimit()
		if hakmem.SetMemoryLimit(4<<20, 3<<20) == nil || hakmem.SetMemoryLimit(0, 1<<20) == nil {
			m.Fatalf("SetMemoryLimit took a soft limit above the hard one, or a hard one of 1 MiB")
		}
		if s, h, err := hakmem.SwapMemoryLimit(4<<20, 3<<20); err == nil || s != soft || h != hard {
			m.Fatalf("SwapMemoryLimit took a soft limit above the hard one, or returned %d, %d where %d, %d are in force", s, h, soft, hard)
		}
		if s, h := hakmem.MemoryLimit(); s != soft || h != hard {
			m.Fatalf("limits that were refused changed %d, %d to %d, %d", soft, hard, s, h)
		}
	})
	return true
}

// tooMuch asks for more than any region has.
func (m *machine) tooMuch() bool {
	const absurd = uintptr(1) << 60
	var b *block
	if i, ok := m.pick(); ok {
		b = m.blocks[i]
	}
	var p unsafe.Pointer
	switch op := m.choose("too much", 7); op {
	case 0:
		p = hakmem.Malloc(absurd)
	case 1:
		p = hakmem.MallocAt(m.sites[0], absurd)
	case 2:
		p = hakmem.AlignedAlloc(4096, absurd)
	case 3:
		p = m.heap().Malloc(math.MaxUint)
	case 4:
		if b != nil {
			p = hakmem.Realloc(b.p, absurd)
			m.mustBeIntact(b)
		} else {
			p = hakmem.Realloc(nil, absurd)
		}
	case 5:
		m.outOf-- // the product is not a size, so no block was asked for
		if p = hakmem.Calloc(1<<40, 1<<40); p == nil {
			p = m.heap().Calloc(math.MaxUint, 2)
		}
	case 6:
		var oom *hakmem.OutOfMemoryError
		v := testkit.PanicOf(func() { hakmem.Alloc(1 << 60) })
		if err, ok := v.(error); !ok || !errors.As(err, &oom) || oom.Size != absurd {
			m.Fatalf("Alloc of %d bytes: panic %v", absurd, v)
		}
		m.mustExplain(oom)
		v = testkit.PanicOf(func() { hakmem.MakeSlice[uint64](0, 1<<61) })
		if err, ok := v.(error); !ok || !errors.As(err, &oom) || oom.Size != math.MaxUint {
			m.Fatalf("MakeSlice of 2^64 bytes: panic %v", v)
		}
		m.mustExplain(oom)
	}
	if p != nil {
		m.Fatalf("2^60 bytes at %p", p)
	}
	m.outOf++
	return true
}

// findsOverflows reports whether the policy finds overflows in a way that the model can check: a
// guarded block is inaccessible once it is freed.
func findsOverflows(p *policy.Settings) bool { return p.Harden && p.Guard == 0 }

// overflow writes past the end of a block, and into a block after its free; HAKMEM_HARDEN must find
// both.
func (m *machine) overflow() bool {
	if !findsOverflows(m.pol) {
		return false
	}
	if i, ok := m.pick(); ok {
		b := m.blocks[i]
		behind := (*byte)(unsafe.Add(b.p, b.usable))
		*behind ^= 0x55
		func() {
			defer func() { *behind ^= 0x55 }() // also when refuse fails, because b will be freed
			m.refuse("a block written behind", b.p, nil, "buffer overflow")
		}()
	}
	p := hakmem.Malloc(64)
	if p == nil {
		m.failed("Malloc", 64)
		return true
	}
	hakmem.Free(p)
	at := uintptr(m.choose("byte", 64))
	*(*byte)(unsafe.Add(p, at)) ^= 1
	e, instead := workout.MisuseOf(hakmem.Trim)
	if e == nil || e.Kind != "write after free" || e.Addr != uintptr(p) || e.Offset != at || !e.Late {
		m.Fatalf("Trim, after byte %d of %p was written: %s %+v", at, p, instead, e)
	}
	return true
}
