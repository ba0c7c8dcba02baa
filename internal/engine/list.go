package engine

import "github.com/hakmem/hakmem/internal/sizeclass"

// This file says what the LANE of a slab is. Blocks that live for long lie in slabs of their own,
// the long lane, so that they do not hold the pages of blocks that are freed soon. All other slabs are of
// the common lane. There is no state here.
//
// Each class has a LIST of slabs in each lane: a lock, a partial set and counts. Larger classes have no
// long lane, because single blocks of them leave holes behind that can be returned.

// listID is the number of a list: 1..Num are those of the common lane, by class, and then come those of
// the long lane. 0 is none.
type listID uint8

const (
	// numLaned is how many classes have a long lane: the fixed ones up to 4 KiB. A free block of more than 4 KiB
	// has a whole OS page in it as often as not, even where its neighbours live.
	numLaned = sizeclass.NumTiny + 2*8
	// maxLaned is the size of the largest of them, in bytes.
	maxLaned = 4 << 10
	// numLists is one more than the number of the last list.
	numLists = sizeclass.Num + numLaned + 1
)

// commonList returns the list of class c in the common lane.
func commonList(c sizeclass.ID) listID { return listID(c) }

// longList returns the list of class c in the long lane. The class must be laned.
func longList(c sizeclass.ID) listID { return listID(c + sizeclass.Num) }

// lanedClass returns the smallest class with a long lane whose blocks do for those of class c, which has at
// most maxLaned bytes. Spare classes have no long lane. Up to 4 KiB their sizes lie in the middle between
// two fixed ones, so the blocks of the next class are aligned to more.
func lanedClass(c sizeclass.ID) sizeclass.ID {
	for c > numLaned {
		c = c.Next()
	}
	return c
}

// class returns the class of the list's slabs.
func (l listID) class() sizeclass.ID {
	if l.isLong() {
		return sizeclass.ID(l) - sizeclass.Num
	}
	return sizeclass.ID(l)
}

// isLong reports whether the list is one of the long lane.
func (l listID) isLong() bool { return l > sizeclass.Num }
