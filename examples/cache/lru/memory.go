package lru

import (
	"math"
	"runtime/metrics"
	"slices"
	"sync"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// Memory is where a cache's blocks live. B is what a slot stores of a block: everything that Bytes
// and Free need. Implementations are safe for concurrent use.
type Memory[B any] interface {
	// Alloc returns a block of n ≥ 0 bytes with undefined contents, or false when no memory is
	// left.
	Alloc(n int) (B, bool)
	// Bytes is the block's memory, n bytes long. It is valid until Free.
	Bytes(B) []byte
	// Free gives the block back. Nothing may use its bytes afterwards.
	Free(B)
	// Cost is the number of bytes that a block of n bytes really takes.
	Cost(n int) int
}

// Hakmem keeps blocks in hakmem's memory, out of sight of the garbage collector.
type Hakmem struct{}

// HakmemBlock is the address and the length of a block. The address is a uintptr, so that the
// garbage collector has nothing to scan in a slot. That is sound because hakmem's memory does not
// move, and is freed only by its owner.
type HakmemBlock struct {
	addr uintptr
	n    int
}

// pointer is the block's address as a pointer, read from the same word that was stored: no
// arithmetic is involved.
func (b *HakmemBlock) pointer() unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&b.addr))
}

// Alloc uses hakmem.Malloc rather than hakmem.Alloc, because a cache can react when no memory is
// left: Malloc returns nil where Alloc panics.
func (Hakmem) Alloc(n int) (HakmemBlock, bool) {
	p := hakmem.Malloc(uintptr(n))
	return HakmemBlock{uintptr(p), n}, p != nil
}

func (Hakmem) Bytes(b HakmemBlock) []byte { return unsafe.Slice((*byte)(b.pointer()), b.n) }
func (Hakmem) Free(b HakmemBlock)         { hakmem.Free(b.pointer()) }
func (Hakmem) Cost(n int) int             { return int(hakmem.GoodSize(uintptr(n))) }

// GoHeap keeps each block in a byte slice of its own and leaves it to the
// garbage collector when it is freed.
type GoHeap struct{}

func (GoHeap) Alloc(n int) ([]byte, bool) { return make([]byte, n), true }
func (GoHeap) Bytes(b []byte) []byte      { return b }
func (GoHeap) Free([]byte)                {}

// Cost rounds n up as the Go runtime does: to a size class, or above the largest class to whole
// pages.
func (GoHeap) Cost(n int) int {
	const pageSize = 8 << 10 // of the Go runtime, on every platform
	classes := goSizeClasses()
	i, _ := slices.BinarySearch(classes, n)
	switch {
	case i < len(classes):
		return classes[i]
	case n > math.MaxInt-pageSize:
		return n
	}
	return (n + pageSize - 1) &^ (pageSize - 1)
}

// goSizeClasses returns the Go runtime's size classes in ascending order. It reads them from the
// only place that publishes them: the bucket bounds of a histogram.
var goSizeClasses = sync.OnceValue(func() []int {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs-by-size:bytes"}}
	metrics.Read(sample)
	var classes []int
	if sample[0].Value.Kind() == metrics.KindFloat64Histogram {
		for _, bound := range sample[0].Value.Float64Histogram().Buckets {
			if bound > 1 && bound <= 1<<30 { // each bound is the size + 1; the last is +Inf
				classes = append(classes, int(bound)-1)
			}
		}
	}
	return classes
})
