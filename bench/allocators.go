package bench

import (
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"unsafe"

	"modernc.org/memory"
)

// Empty is the name of the loop without an allocator.
const Empty = "empty"

// allocator is one row of the table of what can be measured.
type allocator struct {
	name       string
	mixed, hot func(*worker)
	// threadedMixed and threadedHot replace the loops for more than one
	// thread, where an allocator needs it.
	threadedMixed, threadedHot func(*worker)
	version                    func() string
}

var allocators = []allocator{
	{name: "hakmem", mixed: mixedHakmem, hot: hotHakmem, version: hakmemVersion},
	{name: "hakmem-heap", mixed: mixedHeap, hot: hotHeap, version: hakmemVersion},
	{name: "go", mixed: mixedGo, hot: hotGo, version: runtime.Version},
	{name: "pool", mixed: mixedPool, hot: hotPool, version: runtime.Version},
	{name: "modernc", mixed: mixedModernc, hot: hotModernc,
		threadedMixed: mixedModerncLocked, threadedHot: hotModerncLocked,
		version: func() string { return ModuleVersion("modernc.org/memory") }},
	{name: Empty, mixed: mixedEmpty, hot: hotEmpty, version: func() string { return "" }},
}

// Allocators lists the allocators that Measure knows, without Empty.
func Allocators() []string {
	var names []string
	for _, a := range allocators {
		if a.name != Empty {
			names = append(names, a.name)
		}
	}
	return names
}

func find(name string) (*allocator, error) {
	for i := range allocators {
		if allocators[i].name == name {
			return &allocators[i], nil
		}
	}
	return nil, fmt.Errorf("allocator %q: use one of %s", name, strings.Join(Allocators(), ", "))
}

func hakmemVersion() string { return ModuleVersion("github.com/hakmem/hakmem") }

// ModuleVersion returns the version of a module linked into this program:
// "devel" where it comes from a source tree, with the commit if the go tool
// recorded it.
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

// pools holds, at index i, buffers with a capacity of 1<<i bytes. Pointers to
// slices are pooled because a slice in an interface would be allocated.
var pools [64]sync.Pool

func poolGet(size uintptr) *[]byte {
	i := bits.Len64(uint64(size - 1))
	if b, ok := pools[i].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, uintptr(1)<<i)
	return &b
}

func poolPut(b *[]byte) { pools[bits.Len64(uint64(cap(*b)-1))].Put(b) }

var (
	moderncMu     sync.Mutex // guards moderncShared when there are threads
	moderncShared memory.Allocator
)

func moderncMalloc(a *memory.Allocator, size uintptr) unsafe.Pointer {
	p, err := a.UintptrMalloc(int(size))
	if err != nil {
		panic(err)
	}
	return unsafe.Add(nil, p)
}

func moderncFree(a *memory.Allocator, p unsafe.Pointer) {
	if err := a.UintptrFree(uintptr(p)); err != nil {
		panic(err)
	}
}
