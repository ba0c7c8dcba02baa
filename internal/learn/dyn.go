package learn

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// This file finds block sizes that are worth a size class of their own. A program that asks for many blocks
// of a size between two classes wastes the difference in each of them. Which sizes it asks for is seen from
// a sample of its requests, as a histogram; what a class between the two would save follows from it. So
// nothing has to be tried.

const (
	// SizeStep is the width of a bin of the histogram in bytes, and what the sizes of new classes are
	// multiples of. LeastSize and MostSize are the sizes between which they lie. The numbers are those of
	// package sizeclass, whose classes up to LeastSize are no further apart than this.
	SizeStep  = 128
	LeastSize = 1 << 10
	MostSize  = 32 << 10
	// SizeSteps is the number of bins: bin i has the requests for more than i·SizeStep bytes and at most
	// SizeStep more.
	SizeSteps = MostSize / SizeStep
	// MostBlockSizes is how many sizes can be added. The number is that of the C hakmem.
	MostBlockSizes = 2

	// sizesKept is how many requests for sizes of a class make earlier ones count less by a factor of e. A
	// share of 512 is known to 2 % at worst (the standard error of a share of a half), and a program that
	// turns to other sizes is judged by those soon. Without requests nothing is forgotten: the blocks that
	// are in use are still those that were asked for.
	sizesKept = 512
	// leastAsked is how many requests for sizes of a class must be remembered: of fewer, the share that
	// asked for one size is known to 9 % at best (the standard error of a share of a half of 32).
	leastAsked = 32
	// leastSaved is how many bytes a new class must save. It costs each P and Heap that uses it a magazine
	// of 128 KiB of blocks, and a slab of up to 512 KiB of which half is free on average.
	leastSaved = 1 << 20
	// leastShare is how much it must save of what the old class holds. Sizes that are spread evenly over
	// an eighth of a doubling would save 2.8 % at most, with a class in their middle: they have no peak.
	leastShare = 0.04
)

// SizeClass is a size class of an allocator, as Sizes sees it.
type SizeClass struct {
	Below, Size int     // blocks are for requests of more than Below bytes and up to Size
	Share       float64 // what a block takes of its slab, in bytes: more than Size if the slab leaves some unused
	InUse       float64 // what the blocks in use take of their slabs, in bytes
}

// SizeProposal says that a class for blocks of Size bytes should be made.
type SizeProposal struct {
	Size, Instead int     // Instead is the size of the blocks that such requests get now
	Saved         float64 // bytes, if the blocks in use are replaced
	Asked         float64 // requests that are remembered and would get the new blocks
}

// Sizes finds sizes that are worth a class. The zero Sizes has seen nothing. It is for one goroutine at a
// time.
type Sizes struct {
	seen [SizeSteps]float64
	rows [SizeSteps]uint8 // windows in a row in which a class up to the bin's end was worth it
}

// Window takes the requests of a window, by bins, and says which size is worth a class, if one is: the one
// that saves most of those that were worth it in three windows in a row. share returns what SizeClass.Share
// would be for a size. What is proposed is proposed again until there is a class for it.
func (s *Sizes) Window(asked *[SizeSteps]uint32, classes []SizeClass, share func(size int) float64) (best SizeProposal, ok bool) {
	var worth [SizeSteps]bool
	for _, c := range classes {
		first, last := c.Below/SizeStep, c.Size/SizeStep-1
		all, upTo := s.add(asked, first, last), 0.0
		if all < leastAsked {
			continue
		}
		for i := first; i < last; i++ { // at last, the class itself
			upTo += s.seen[i]
			size := (i + 1) * SizeStep
			saved := c.InUse * upTo / all * (1 - share(size)/c.Share)
			if s.seen[i] == 0 || size <= LeastSize || saved < leastSaved || saved < leastShare*c.InUse {
				continue
			}
			worth[i] = true
			if s.rows[i] >= rowWindows-1 && saved > best.Saved {
				best, ok = SizeProposal{Size: size, Instead: c.Size, Saved: saved, Asked: upTo}, true
			}
		}
	}
	for i, w := range worth {
		if !w {
			s.rows[i] = 0
		} else if s.rows[i] < rowWindows {
			s.rows[i]++
		}
	}
	return best, ok
}

// add adds the requests of the bins from first to last, those of a class, and returns how many are
// remembered now.
func (s *Sizes) add(asked *[SizeSteps]uint32, first, last int) (all float64) {
	n := 0.0
	for i := first; i <= last; i++ {
		n += float64(asked[i])
	}
	kept := math.Exp(-n / sizesKept)
	for i := first; i <= last; i++ {
		s.seen[i] = s.seen[i]*kept + float64(asked[i])
		all += s.seen[i]
	}
	return all
}

// BlockSize is a size that was added to those of an allocator's classes, for a policy file.
type BlockSize struct {
	Size int // bytes
	// Weight is how many requests it was learnt from, 0 if the program has set it.
	Weight float64
}

// checkSizes returns an error if sizes could not be added.
func checkSizes(sizes []BlockSize) error {
	if len(sizes) > MostBlockSizes {
		return fmt.Errorf("learn: %d block sizes are to be added, at most %d can be", len(sizes), MostBlockSizes)
	}
	seen := map[int]bool{}
	for _, b := range sizes {
		switch {
		case b.Size <= LeastSize || b.Size >= MostSize || b.Size%SizeStep != 0:
			return fmt.Errorf("learn: a block size of %d bytes is to be added, want a multiple of %d between %d and %d", b.Size, SizeStep, LeastSize, MostSize)
		case seen[b.Size]:
			return fmt.Errorf("learn: the block size %d is to be added twice", b.Size)
		case !sensible(b.Weight):
			return fmt.Errorf("learn: the block size %d was learnt from %g requests", b.Size, b.Weight)
		}
		seen[b.Size] = true
	}
	return nil
}

// mergeSizes returns the sizes of both lists, those that a program has set first and then those of most
// weight, as many as can be added. A size that is in both has the weight of both together.
func mergeSizes(sizes, others []BlockSize) []BlockSize {
	merged := slices.Clone(sizes)
	for _, o := range others {
		i := slices.IndexFunc(merged, func(b BlockSize) bool { return b.Size == o.Size })
		switch {
		case i < 0:
			merged = append(merged, o)
		case merged[i].Weight == 0 || o.Weight == 0:
			merged[i].Weight = 0
		default:
			merged[i].Weight += o.Weight
		}
	}
	weight := func(b BlockSize) float64 {
		if b.Weight == 0 {
			return math.Inf(1)
		}
		return b.Weight
	}
	slices.SortStableFunc(merged, func(a, b BlockSize) int { return cmp.Compare(weight(b), weight(a)) })
	return merged[:min(len(merged), MostBlockSizes)]
}
