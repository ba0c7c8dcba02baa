package engine

import (
	"errors"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the sizes that were added to the fixed classes, and what is noted of the sizes that the
// program asks for. A size that was added stays for as long as the process lives.

// addedSizes are the sizes of the spare classes. Before there is a region they are only wanted: Ready
// defines them. Owned by region.mu.
var addedSizes []learn.BlockSize

// errNoSpare says that all spare classes are taken.
var errNoSpare = errors.New("no spare size class is left")

// addSize makes a class for blocks of b.Size bytes. It returns an error if there can be none of that size,
// or not one more. Under region.mu.
func addSize(b learn.BlockSize) error {
	check.MustHold(&region.mu, "addSize")
	for _, a := range addedSizes {
		if a.Size == b.Size {
			return nil
		}
	}
	if len(addedSizes) == sizeclass.NumSpare {
		return errNoSpare
	}
	err := sizeclass.Check(mem.Bytes(b.Size))
	if err == nil && region.ready.Load() {
		_, err = sizeclass.Define(mem.Bytes(b.Size))
	}
	if err == nil {
		addedSizes = append(addedSizes, b)
	}
	return err
}

// defineSizes makes the classes that the program wants from the first allocation on: those of HAKMEM_DYN,
// or with auto those of a policy file. Under region.mu, before there is a block.
func defineSizes() {
	check.MustHold(&region.mu, "defineSizes")
	if dyn := policy.AtStart().Dyn; dyn != policy.DynAuto {
		addedSizes = nil
		for _, size := range dyn.Sizes() {
			addedSizes = append(addedSizes, learn.BlockSize{Size: int(size)})
		}
	}
	for _, a := range addedSizes {
		if _, err := sizeclass.Define(mem.Bytes(a.Size)); err != nil {
			fatal("a size that was checked has no class", 0, 0)
		}
	}
}

// checkSizes returns an error if a class cannot have one of the sizes of a policy file.
func checkSizes(list []learn.BlockSize) error {
	for _, b := range list {
		if err := sizeclass.Check(mem.Bytes(b.Size)); err != nil {
			return err
		}
	}
	return nil
}

// importSizes adds the sizes of a policy file, in their order, as far as there are spare classes and unless
// HAKMEM_DYN says which sizes there are. checkSizes must have found nothing. Not entered.
func importSizes(list []learn.BlockSize) {
	check.MustNotBeEntered("importSizes")
	if policy.AtStart().Dyn != policy.DynAuto {
		return
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	for _, b := range list {
		if addSize(b) != nil { // no class is left
			return
		}
	}
}

// askedSizes counts the allocations that found a magazine empty, by size as learn.Sizes does. They are a
// sample: a refill brings 16 blocks and more. Where sizes of one class take turns, and each refill brings
// a multiple of a turn, it is always the same size that finds the magazine empty. Then one size counts
// for all of them.
var askedSizes [learn.SizeSteps]atomic.Uint32

// noteSize notes that an allocation of size bytes found the magazine of class c empty. Blocks that are of
// a larger class than the size asks for, because of their alignment, do not count. Any goroutine, also
// entered.
func noteSize(size mem.Bytes, c sizeclass.ID) {
	if learning && size > sizeclass.MaxTiny && sizeclass.Of(size) == c {
		askedSizes[(size-1)/sizeclass.Step].Add(1)
	}
}

// The bins of askedSizes must be those of learn.Sizes.
const (
	_ = uint(learn.SizeStep-sizeclass.Step) + uint(sizeclass.Step-learn.SizeStep)
	_ = uint(learn.MostSize-sizeclass.MaxMid) + uint(sizeclass.MaxMid-learn.MostSize)
	_ = uint(learn.LeastSize-sizeclass.MaxTiny) + uint(sizeclass.MaxTiny-learn.LeastSize)
	_ = uint(learn.MostBlockSizes-sizeclass.NumSpare) + uint(sizeclass.NumSpare-learn.MostBlockSizes)
)

// usedProbes is how many PARTIAL slabs usedBytes looks at, each for one word of a bitmap: 2 µs of the
// list's lock at most. The mean of 32 shares is known to a tenth of what one varies by at the utmost.
const usedProbes = 32

// usedBytes estimates how many bytes of the slabs of the common lane of class c, above 1 KiB, are those of
// blocks in use, or in a front. What a slab leaves unused counts in proportion.
func usedBytes(c sizeclass.ID) float64 {
	l := commonList(c)
	ls, k := &lists[l], &sizeclass.Classes[c]
	ls.mu.Lock()
	defer ls.mu.Unlock()
	used := float64(ls.slabs - ls.listed)
	looked, share := 0, 0.0
	from, to := region.firstPage(), region.endPage()
	next := from
	for i := range pageNo(usedProbes) { // at places spread evenly over the region, each slab once
		page, ok := setNext(l, max(next, from+(to-from)*i/usedProbes))
		if !ok {
			break
		}
		next = page + 1
		looked++
		share += 1 - float64(slabID(page+1).freeBlocks(k))/float64(k.Blocks)
	}
	if looked > 0 {
		used += float64(ls.listed) * share / float64(looked)
	}
	return used * float64(slabBytes(c))
}
