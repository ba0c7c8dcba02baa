package sizeclass

import (
	"fmt"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
)

// This file holds the spare classes. Fixed classes above 1 KiB are an eighth of a doubling apart. So a
// program whose blocks have 4112 bytes would waste an eighth of its memory, and a class of 4224 bytes
// in between wastes a fortieth. Such a class is defined while the program runs, and then it is there for
// good: a goroutine may hold its number at any time.

// fence orders what a goroutine writes before it against what the goroutine writes after it, for all
// that read without a lock. It is written by Define only.
var fence atomic.Uint32

// Next returns the class with the next larger size, or 0 behind the largest one of slabs. Next of the
// trap class is the smallest class. Any goroutine.
func (c ID) Next() ID {
	size := mem.Bytes(Classes[c].Size)
	if size >= MaxMid {
		return 0
	}
	return Of(size + 1)
}

// Aligned returns the smallest class whose blocks have at least size bytes and the alignment align, or 0
// if there is none of slabs. Slabs begin on a page, so the blocks of a class are aligned to what divides
// its size. Any goroutine; size is at most MaxMid.
func Aligned(size mem.Bytes, align mem.Align) ID {
	c := Of(size)
	for c != 0 && c.Align() < align {
		c = c.Next()
	}
	return c
}

// Spare returns how many spare classes are not defined yet. For callers of Define, under their lock.
func Spare() (n int) {
	for c := ID(NumFixed + 1); c <= Num; c++ {
		if Classes[c].Size == 0 {
			n++
		}
	}
	return n
}

// Whole reports whether c is a spare class as Define makes it, or one without a size. Under the lock of
// Define.
func (c ID) Whole() bool {
	k := Classes[c]
	return k == Class{} || k.Size > 0 && Check(c.Bytes()) == nil && k == makeClass(c.Bytes(), bestOrder(c.Bytes()))
}

// Check returns an error if size is none that a spare class can have. Whether another class has it is
// not looked at, unless that class is fixed. Any goroutine.
func Check(size mem.Bytes) error {
	switch {
	case size <= MaxTiny || size >= MaxMid || size%Step != 0:
		return fmt.Errorf("a block size of %d bytes cannot be added: use a multiple of %d between %d and %d", size, Step, MaxTiny, MaxMid)
	case fixed(size):
		return fmt.Errorf("a block size of %d bytes cannot be added: blocks of that size are there in any case", size)
	}
	return nil
}

// fixed reports whether a fixed class has that size.
func fixed(size mem.Bytes) bool {
	for c := ID(1); c <= NumFixed; c++ {
		if c.Bytes() == size {
			return true
		}
	}
	return false
}

// Define gives a spare class the given size and returns its number. From then on sizes above the next
// smaller class and up to this one get blocks of it. If a spare class has the size already, that one is
// returned. It returns an error, and changes nothing, if Check does or no spare class is left.
//
// One goroutine at a time; the caller sees to that with a lock. Others may read the tables meanwhile,
// without one, as the fast paths do.
func Define(size mem.Bytes) (ID, error) {
	if err := Check(size); err != nil {
		return 0, err
	}
	free := ID(0)
	for c := ID(Num); c > NumFixed; c-- {
		switch c.Bytes() {
		case size:
			return c, nil
		case 0:
			free = c
		}
	}
	if free == 0 {
		return 0, fmt.Errorf("a block size of %d bytes cannot be added: %d were added before, and there is room for no more", size, NumSpare)
	}
	publish(free, makeClass(size, bestOrder(size)))
	return free, nil
}

// publish makes k the spare class c. The race detector does not see it: it would take the fast paths, which
// read a byte that may be either value, for racing with this.
//
//go:norace
func publish(c ID, k Class) {
	from, to := Mid[uint8((k.Size-1)/Step)], uint8((k.Size-1)/Step)
	Classes[c] = k
	// Whoever finds the number in Mid must find the class too. On arm64 a store with release and then a
	// load with acquire keep the stores before them and those after them apart.
	fence.Store(uint32(c))
	fence.Load()
	for i := to; Mid[i] == from && i >= MaxTiny/Step; i-- {
		Mid[i] = c
	}
}

// bestOrder returns the order of slabs of at least 16 and at most 64 blocks of size bytes that leaves the
// least of the slab unused, and of two equal ones the smaller. 64 blocks are one word of the bitmap. A
// slab of MaxOrder has 16 blocks of any class.
func bestOrder(size mem.Bytes) (best uint32) {
	least := mem.Bytes(PageSize << MaxOrder)
	for order := uint32(0); order <= MaxOrder; order++ {
		blocks := (PageSize << order) / size
		// The rest as a share of the slab, in bytes of the largest slab.
		rest := (PageSize<<order - blocks*size) << (MaxOrder - order)
		if blocks >= 16 && blocks <= 64 && rest < least {
			best, least = order, rest
		}
	}
	return best
}

// SlabShare returns the bytes of a slab for each block in it, for blocks of size bytes above MaxTiny: those
// of the block and its part of what the slab leaves unused. It holds for a class that is defined and for
// one that Define would make. Any goroutine.
func SlabShare(size mem.Bytes) float64 {
	k := Classes[Of(size)]
	if mem.Bytes(k.Size) != size {
		k = makeClass(size, bestOrder(size))
	}
	return float64(uint64(PageSize)<<k.Order) / float64(k.Blocks)
}
