package memory

import (
	"iter"
	"math/bits"
	"unsafe"
)

// granule is what every block of hakmem is aligned to, in bytes: hakmem.Malloc promises it.
const granule = 16

// stretchBytes is how much address space a stretch has. It is the size of hakmem's pages, so that a block
// above 32 KiB, which has pages of its own, takes one bit; another size would do as well.
const stretchBytes = 64 << 10

// stretch has a bit for each granule of a part of the address space: 1 if an owned block begins there.
type stretch [stretchBytes / granule / 64]uint64

// owned is a set of blocks, by their addresses. The zero value is the empty set. It is kept outside the
// blocks, so that they keep the sizes and alignments that hakmem gives them, and a program that writes
// beyond a block cannot break it.
type owned struct {
	stretches map[uintptr]*stretch // by address / stretchBytes

	// The stretch of the last call. Blocks of one size lie next to each other.
	lastAt uintptr
	last   *stretch
}

// at returns the stretch that an address is in, nil if there is none, and where in it the address is.
func (o *owned) at(p unsafe.Pointer) (s *stretch, word int, bit uint64) {
	at := uintptr(p) / stretchBytes
	if o.last == nil || o.lastAt != at {
		o.lastAt, o.last = at, o.stretches[at]
	}
	g := uintptr(p) % stretchBytes / granule
	return o.last, int(g / 64), 1 << (g % 64)
}

// has reports whether p is in the set. It may be any address.
func (o *owned) has(p unsafe.Pointer) bool {
	s, word, bit := o.at(p)
	return s != nil && s[word]&bit != 0 && uintptr(p)%granule == 0
}

// add adds a block that is not in the set.
func (o *owned) add(p unsafe.Pointer) {
	s, word, bit := o.at(p)
	if s == nil {
		if o.stretches == nil {
			o.stretches = map[uintptr]*stretch{}
		}
		s = new(stretch)
		o.last, o.stretches[o.lastAt] = s, s
	}
	s[word] |= bit
}

// remove removes a block that is in the set.
func (o *owned) remove(p unsafe.Pointer) {
	s, word, bit := o.at(p)
	s[word] &^= bit
}

// all returns every block, in no order. The set must not change meanwhile.
func (o *owned) all() iter.Seq[unsafe.Pointer] {
	return func(yield func(unsafe.Pointer) bool) {
		for at, s := range o.stretches {
			for word, left := range s {
				for ; left != 0; left &= left - 1 {
					g := uintptr(word*64 + bits.TrailingZeros64(left))
					if !yield(pointer(at*stretchBytes + g*granule)) {
						return
					}
				}
			}
		}
	}
}

// shrink forgets the stretches without blocks.
func (o *owned) shrink() {
	for at, s := range o.stretches {
		if *s == (stretch{}) {
			delete(o.stretches, at)
		}
	}
	o.last = nil
}
