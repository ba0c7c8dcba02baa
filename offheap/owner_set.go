package offheap

import (
	"iter"
	"math/bits"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
)

// This file is the set of blocks of an Owner. Nothing in it is exported.

const (
	// granule is what every block of hakmem is aligned to, in bytes: hakmem.Malloc promises it.
	granule = 1 << granuleShift

	// stretchBytes is how much address space a stretch has. It is the size of hakmem's pages, so that a block
	// above 32 KiB, which has pages of its own, takes one bit; another size would do as well.
	stretchBytes = 64 << 10
)

// stretch has a bit for each granule of a part of the address space: 1 if a block of the set begins there.
type stretch [stretchBytes / granule / 64]uint64

// blockSet is a set of blocks, by their addresses. The zero value is the empty set. It is kept outside the
// blocks, so that they keep the sizes and alignments that hakmem gives them, and a program that writes
// beyond a block cannot break it.
type blockSet struct {
	stretches map[engine.Block]*stretch // by address / stretchBytes
	n         int                       // blocks

	// The stretch of the last call. Blocks of one size lie next to each other.
	lastAt engine.Block
	last   *stretch
}

// at returns the stretch that an address is in, nil if there is none, and where in it the address is.
func (s *blockSet) at(p unsafe.Pointer) (in *stretch, word int, bit uint64) {
	b := engine.Block(uintptr(p))
	if at := b / stretchBytes; s.last == nil || s.lastAt != at {
		s.lastAt, s.last = at, s.stretches[at]
	}
	g := b % stretchBytes / granule
	return s.last, int(g / 64), 1 << (g % 64)
}

// has reports whether p is in the set. It may be any address.
func (s *blockSet) has(p unsafe.Pointer) bool {
	in, word, bit := s.at(p)
	return in != nil && in[word]&bit != 0 && uintptr(p)%granule == 0
}

// add adds a block that is not in the set.
func (s *blockSet) add(p unsafe.Pointer) {
	in, word, bit := s.at(p)
	if in == nil {
		if s.stretches == nil {
			s.stretches = map[engine.Block]*stretch{}
		}
		in = new(stretch)
		s.last, s.stretches[s.lastAt] = in, in
	}
	if in[word]&bit == 0 { // else somebody else has freed the block that was here
		in[word] |= bit
		s.n++
	}
}

// remove removes a block, and reports whether it was in the set. p may be any address.
func (s *blockSet) remove(p unsafe.Pointer) bool {
	in, word, bit := s.at(p)
	if in == nil || in[word]&bit == 0 || uintptr(p)%granule != 0 {
		return false
	}
	in[word] &^= bit
	s.n--
	return true
}

// all returns every block, in no order. The set may change meanwhile: a block that is removed does not come after
// that, and one that is added may come or not.
func (s *blockSet) all() iter.Seq[unsafe.Pointer] {
	return func(yield func(unsafe.Pointer) bool) {
		for at, in := range s.stretches {
			for word := range in {
				for left := in[word]; left != 0; left &= left - 1 {
					bit := bits.TrailingZeros64(left)
					if in[word]>>bit&1 != 0 && !yield(pointerTo(at*stretchBytes+engine.Block(word*64+bit)*granule)) {
						return
					}
				}
			}
		}
	}
}

// shrink forgets the stretches without blocks.
func (s *blockSet) shrink() {
	for at, in := range s.stretches {
		if *in == (stretch{}) {
			delete(s.stretches, at)
		}
	}
	s.last = nil
}
