// Package hakmemwazero gives the WebAssembly runtime wazero (github.com/tetratelabs/wazero) linear memories that lie
// outside the Go heap, in hakmem:
//
//	ctx = experimental.WithMemoryAllocator(ctx, hakmemwazero.New(hakmemwazero.Options{}))
//	module, err := runtime.InstantiateWithConfig(ctx, binary, config)
//	defer module.Close(ctx) // gives the memory back
//
// A linear memory is what a module's code can address. It has pages of 64 KiB, a first size, and a max, which is
// 4 GiB where neither the module nor RuntimeConfig.WithMemoryLimitPages says less. The module makes it grow.
//
// After a module was closed, its api.Memory must not be used any more, nor slices of it: wazero does not notice that,
// and the memory may be another's. A memory that several modules have, because they import it, is freed with the
// first of them.
//
// It was tried with wazero v1.12.0.
package hakmemwazero

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/hakmem/hakmem"
)

// Options says how an Allocator allocates. The zero value is right for most programs.
type Options struct {
	// Site labels the memories in hakmem's statistics, profile and leak reports. 0 means none.
	Site hakmem.Site
	// Reserve is how many bytes a memory's block has from the start, as far as the memory's max goes. Where the module
	// has not asked for them yet, they take no memory, but hakmem counts them for its limits. Without Moves a
	// memory cannot become larger. 0 is 256 MiB; with Moves it is what the module begins with.
	Reserve uint64
	// Moves lets a memory move when its block becomes too small. Without it, a memory stays where it is until its module is
	// closed: shared memories need that, and so do slices of api.Memory.Read that are in use while the module runs.
	//
	// Never set Moves in a program that has shared memories, which exist only with experimental.CoreFeaturesThreads:
	// other goroutines would use the former block.
	Moves bool
}

// defaultReserve is Options.Reserve without Moves. Four thousand such memories fill hakmem's region of 1 TiB.
const defaultReserve = 256 << 20

// Allocator is an experimental.MemoryAllocator. Any goroutine may use it, for any number of modules.
type Allocator struct{ options Options }

var _ experimental.MemoryAllocator = (*Allocator)(nil)

// New returns an Allocator for experimental.WithMemoryAllocator. It panics for a site that
// [hakmem.RegisterSite] did not return.
func New(o Options) *Allocator {
	if o.Site != 0 {
		hakmem.ReadSiteRule(o.Site) // it panics for a site that is not registered
	}
	return &Allocator{o}
}

// Allocate returns a linear memory for a module, whose Reallocate wazero calls at once.
//
// Reallocate returns nil when no memory is left, for more than max bytes, and without Options.Moves for more than
// Options.Reserve, if the module did not begin with more. The module sees that as a memory.grow that failed; for the
// first size wazero panics. Where hakmem has no block of the reserve, the memory gets one that is half as large, a
// quarter, and so on.
func (a *Allocator) Allocate(capacity, max uint64) experimental.LinearMemory {
	reserve := a.options.Reserve
	if reserve == 0 && !a.options.Moves {
		reserve = defaultReserve
	}
	if reserve < capacity {
		reserve = capacity
	}
	m := &memory{options: a.options, reserve: min(reserve, max), max: max, held: new(held)}
	runtime.Callers(2, m.held.by[:])
	runtime.AddCleanup(m, drop, m.held)
	return m
}

// memory is an experimental.LinearMemory. As wazero uses it, no two calls of its methods overlap.
type memory struct {
	options      Options
	reserve, max uint64
	p            unsafe.Pointer // the block; nil before the first Reallocate and after Free
	room         uint64         // bytes that the block has for the module
	size         uint64         // bytes that the module has; those behind it hold anything
	freed        bool
	held         *held
}

// Reallocate makes the memory size bytes long and returns it, with len = cap = size. What it had stays, and what is
// new is zero. nil means that the memory cannot be so large; it is as before then. It panics after Free.
func (m *memory) Reallocate(size uint64) []byte {
	switch {
	case m.freed:
		panic(fmt.Sprintf("hakmemwazero: Reallocate to %d bytes after Free: the module is closed", size))
	case size > m.max && m.p != nil:
		return nil
	case m.p == nil:
		if !m.begin(size) {
			return nil
		}
	case size <= m.room:
	case !m.options.Moves:
		return nil
	default:
		p := hakmem.ReallocZeroed(m.p, uintptr(m.size), uintptr(size))
		if p == nil {
			return nil
		}
		m.p, m.room, m.size = p, size, size
	}
	if size > m.size {
		clear(unsafe.Slice((*byte)(m.p), size)[m.size:])
	}
	m.size = size
	m.held.bytes.Store(int64(m.room))
	return unsafe.Slice((*byte)(m.p), size)
}

// begin allocates the block, for size bytes at least, which the module has a right to.
func (m *memory) begin(size uint64) bool {
	m.max = max(m.max, size)
	for m.room = max(m.reserve, size); ; m.room = max(m.room/2, size) {
		// Not Calloc, which writes all of a block under HAKMEM_HARDEN.
		if m.p = malloc(m.options.Site, uintptr(m.room)); m.p != nil || m.room == size {
			return m.p != nil
		}
	}
}

func malloc(s hakmem.Site, n uintptr) unsafe.Pointer {
	if s == 0 {
		return hakmem.Malloc(n)
	}
	return hakmem.MallocAt(s, n)
}

// Free gives the memory back. Slices of it, such as those of api.Memory.Read, must not be used any more. A second
// Free does nothing.
func (m *memory) Free() {
	if !m.freed {
		m.freed = true
		hakmem.Free(m.p)
		m.p = nil
		m.held.bytes.Store(0)
	}
}

// held is what is known of a memory when it is dropped.
type held struct {
	bytes atomic.Int64
	by    [24]uintptr // the stack of Allocate: a dozen functions of wazero's come before the program's
}

// Dropped counts the memories that became unreachable, with their modules, without Close.
type Dropped struct {
	Memories uint64
	Bytes    int64 // in their blocks, which stay allocated
	// First says where the first of them was made: the first function outside wazero, and its line. It is empty if there is none.
	First string
}

// dropped is what ReadDropped returns.
var dropped struct {
	memories atomic.Uint64
	bytes    atomic.Int64
	first    atomic.Pointer[held]
}

// ReadDropped returns what was dropped since the start of the program. A memory is noticed some time after a garbage
// collection that finds it unreachable. It is not freed, since a slice of api.Memory.Read may still be in
// use. Any goroutine may call it.
func ReadDropped() Dropped {
	d := Dropped{Memories: dropped.memories.Load(), Bytes: dropped.bytes.Load()}
	if h := dropped.first.Load(); h != nil {
		d.First = h.String()
	}
	return d
}

// drop is the cleanup of a memory.
func drop(h *held) {
	n := h.bytes.Load()
	if n == 0 {
		return
	}
	dropped.first.CompareAndSwap(nil, h)
	dropped.bytes.Add(n)
	dropped.memories.Add(1)
}

// String names the function that made wazero allocate the memory.
func (h *held) String() string {
	frames := runtime.CallersFrames(h.by[:])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "github.com/tetratelabs/wazero") || !more {
			return fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
		}
	}
}
