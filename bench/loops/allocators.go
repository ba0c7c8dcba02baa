package loops

import (
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"modernc.org/memory"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench/result"
)

// The allocators that can be measured: how the observed loop calls each. Every worker gets calls of
// its own, except that pools is shared by all, and moderncShared is shared under moderncMu.

// Empty is the name of the loop without an allocator.
const Empty = "empty"

// Cgo is the name of C's malloc through cgo. Only builds with the tag hakmem_cgo have it.
const Cgo = "cgo"

// allocator is one row of the table of what can be measured.
type allocator struct {
	name    string
	loops   map[string]func(*worker)
	version func() string
	// shared says that the row's loops are for more than one thread, and that the row of the same
	// name without shared is for one thread only.
	shared bool
	// trim returns what can be to the system; nil where the allocator has no such call. own is what the
	// allocator says of itself; nil where it says nothing.
	trim func()
	own  func() *result.Own
	// calls returns the functions that the observed loop calls for one worker. It is nil for the
	// empty loop.
	calls func() calls
}

// calls are an allocator's functions. A block has the form that the generated loops use
// (gen/families.go), and data finds its bytes.
type calls struct {
	malloc, calloc func(size uintptr) unsafe.Pointer
	realloc        func(p unsafe.Pointer, size, more uintptr) unsafe.Pointer
	memalign       func(align, size uintptr) unsafe.Pointer
	free           func(unsafe.Pointer)
	data           func(unsafe.Pointer) unsafe.Pointer
	// close ends the worker's use of the allocator; nil where there is nothing to end.
	close func()
	// aligns says that memalign returns a multiple of align. Where it does not, the block is longer
	// by align bytes, so that its user can find a multiple in it.
	aligns bool
}

func same(p unsafe.Pointer) unsafe.Pointer { return p }

var allocators = []allocator{
	{name: "hakmem", loops: loopsHakmem, version: hakmemVersion, trim: hakmem.Trim, own: hakmemOwn, calls: func() calls {
		return calls{hakmem.Malloc, func(n uintptr) unsafe.Pointer { return hakmem.Calloc(1, n) },
			func(p unsafe.Pointer, _, more uintptr) unsafe.Pointer { return hakmem.Realloc(p, more) },
			hakmem.AlignedAlloc, hakmem.Free, same, nil, true}
	}},
	{name: "hakmem-heap", loops: loopsHeap, version: hakmemVersion, trim: hakmem.Trim, own: hakmemOwn, calls: func() calls {
		h := hakmem.NewHeap() // a worker has one goroutine at a time
		return calls{h.Malloc, func(n uintptr) unsafe.Pointer { return h.Calloc(1, n) },
			func(p unsafe.Pointer, _, more uintptr) unsafe.Pointer { return h.Realloc(p, more) },
			hakmem.AlignedAlloc, h.Free, same, h.Close, true}
	}},
	{name: "go", loops: loopsGo, version: runtime.Version, trim: debug.FreeOSMemory, calls: func() calls {
		return calls{goMalloc, goMalloc, goRealloc,
			func(align, n uintptr) unsafe.Pointer { return goMalloc(n + align) }, func(unsafe.Pointer) {}, same, nil, false}
	}},
	{name: "pool", loops: loopsPool, version: runtime.Version, trim: debug.FreeOSMemory, calls: func() calls {
		return calls{func(n uintptr) unsafe.Pointer { return unsafe.Pointer(poolGet(n)) },
			func(n uintptr) unsafe.Pointer { return unsafe.Pointer(poolGetZeroed(n)) },
			func(p unsafe.Pointer, _, more uintptr) unsafe.Pointer { return poolRealloc(p, more) },
			func(align, n uintptr) unsafe.Pointer { return unsafe.Pointer(poolGet(n + align)) },
			func(p unsafe.Pointer) { poolPut((*[]byte)(p)) },
			func(p unsafe.Pointer) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(*(*[]byte)(p))) }, nil, false}
	}},
	{name: "modernc", loops: loopsModernc, version: moderncVersion, calls: moderncCalls},
	{name: "modernc", loops: loopsModerncLocked, version: moderncVersion, shared: true, calls: moderncCalls},
	{name: Empty, loops: loopsEmpty, version: func() string { return "" }},
}

// Allocators lists the allocators that Measure knows, except for Empty.
func Allocators() []string {
	var names []string
	for _, a := range allocators {
		if a.name != Empty && !slices.Contains(names, a.name) {
			names = append(names, a.name)
		}
	}
	return names
}

// find returns the row of that name. If several threads are asked for and there is a row for them,
// it returns that one.
func find(name string, threaded bool) (*allocator, error) {
	var found *allocator
	for i := range allocators {
		if a := &allocators[i]; a.name == name && (found == nil || threaded && a.shared) {
			found = a
		}
	}
	if found == nil {
		return nil, fmt.Errorf("allocator %q: use one of %s", name, strings.Join(Allocators(), ", "))
	}
	return found, nil
}

func hakmemVersion() string { return ModuleVersion("github.com/hakmem/hakmem") }

// ModuleVersion returns the version of a module linked into this program. It is "devel" where the
// module comes from a source tree, with the commit if the go tool recorded it.
func ModuleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path != path {
			continue
		}
		if m.Replace == nil && m.Version != "" && m.Version != "(devel)" {
			return m.Version
		}
		break
	}
	v := "devel"
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v += "-" + s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			v += "+dirty"
		}
	}
	return v
}

// pools holds, at index i, buffers with a capacity of 1<<i bytes. It pools pointers to slices,
// because a slice in an interface would be allocated.
var pools [64]sync.Pool

func poolGet(size uintptr) *[]byte {
	i := bits.Len64(uint64(max(size, 1) - 1))
	if b, ok := pools[i].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, uintptr(1)<<i)
	return &b
}

func poolPut(b *[]byte) { pools[bits.Len64(uint64(cap(*b)-1))].Put(b) }

func poolGetZeroed(size uintptr) *[]byte {
	b := poolGet(size)
	clear((*b)[:size])
	return b
}

// poolRealloc keeps a buffer that is large enough.
func poolRealloc(p unsafe.Pointer, size uintptr) unsafe.Pointer {
	b := (*[]byte)(p)
	if uintptr(cap(*b)) >= size {
		return p
	}
	more := poolGet(size)
	copy(*more, *b)
	poolPut(b)
	return unsafe.Pointer(more)
}

// goMalloc never returns the one address that all slices of no bytes share.
func goMalloc(size uintptr) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(make([]byte, max(size, 1))))
}

func goRealloc(p unsafe.Pointer, size, more uintptr) unsafe.Pointer {
	b := make([]byte, more)
	copy(b, unsafe.Slice((*byte)(p), size))
	return unsafe.Pointer(unsafe.SliceData(b))
}

var (
	moderncMu     sync.Mutex // guards moderncShared when there are threads
	moderncShared memory.Allocator
)

func moderncVersion() string { return ModuleVersion("modernc.org/memory") }

func moderncMalloc(size uintptr) unsafe.Pointer {
	return moderncBlock(moderncShared.UintptrMalloc(int(max(size, 1)))) // it has no block of size 0
}

func moderncCalloc(size uintptr) unsafe.Pointer {
	return moderncBlock(moderncShared.UintptrCalloc(int(max(size, 1))))
}

func moderncRealloc(p unsafe.Pointer, size uintptr) unsafe.Pointer {
	return moderncBlock(moderncShared.UintptrRealloc(uintptr(p), int(size)))
}

// moderncCalls lock, whether there are threads or not: the observed loop is not used to measure
// speed.
func moderncCalls() calls {
	locked := func(f func(uintptr) unsafe.Pointer) func(uintptr) unsafe.Pointer {
		return func(size uintptr) unsafe.Pointer {
			moderncMu.Lock()
			defer moderncMu.Unlock()
			return f(size)
		}
	}
	return calls{locked(moderncMalloc), locked(moderncCalloc),
		func(p unsafe.Pointer, _, more uintptr) unsafe.Pointer {
			return locked(func(n uintptr) unsafe.Pointer { return moderncRealloc(p, n) })(more)
		},
		func(align, n uintptr) unsafe.Pointer { return locked(moderncMalloc)(n + align) },
		func(p unsafe.Pointer) {
			moderncMu.Lock()
			defer moderncMu.Unlock()
			moderncFree(p)
		}, same, nil, false}
}

func moderncBlock(p uintptr, err error) unsafe.Pointer {
	if err != nil {
		panic(err)
	}
	return unsafe.Add(nil, p)
}

func moderncFree(p unsafe.Pointer) {
	if err := moderncShared.UintptrFree(uintptr(p)); err != nil {
		panic(err)
	}
}
