package fastcache

import (
	"unsafe"

	"github.com/hakmem/hakmem"
)

// slot is an element of an index. It is free where its place is 0.
type slot struct {
	hash hash
	at   place
}

const slotSize = uint64(unsafe.Sizeof(slot{}))

// minSlots is the size of the smallest table: it and its like in 512 buckets have 128 KiB.
const minSlots = 16

// index leads from hashes to places. It is a hash table with linear probing (Knuth, The Art of Computer Programming,
// volume 3, section 6.4, algorithms L and R) in hakmem's memory, with a power of two of slots of which one
// at least is free. The zero index is empty.
type index struct {
	slots []slot
	live  int
}

// home is where the search for a hash begins. The lowest bits are the same in a whole bucket.
func (x *index) home(h hash) int { return int(h/bucketsCount) & (len(x.slots) - 1) }

func (x *index) next(i int) int { return (i + 1) & (len(x.slots) - 1) }

// find returns the slot of a hash, or the free one where it would be. There must be slots.
func (x *index) find(h hash) *slot {
	for i := x.home(h); ; i = x.next(i) {
		if s := &x.slots[i]; s.hash == h || s.at == 0 {
			return s
		}
	}
}

// get returns the place of a hash, or 0.
func (x *index) get(h hash) place {
	if x.live == 0 {
		return 0
	}
	return x.find(h).at
}

// put sets the place of a hash. It returns false if there is no slot and hakmem has no memory for more.
func (x *index) put(h hash, at place) bool {
	if x.live > 0 {
		if s := x.find(h); s.at != 0 {
			s.at = at
			return true
		}
	}
	// Above 3/4 a search for what is not there takes 8.5 steps on average, above 7/8 it would be 32.
	if (x.live+1)*4 > len(x.slots)*3 && !x.resize(max(2*len(x.slots), minSlots)) && x.live+1 >= len(x.slots) {
		return false
	}
	*x.find(h) = slot{h, at}
	x.live++
	return true
}

// del removes a hash, if it is there.
func (x *index) del(h hash) {
	if x.live == 0 {
		return
	}
	i := x.home(h)
	for ; x.slots[i].hash != h; i = x.next(i) {
		if x.slots[i].at == 0 {
			return
		}
	}
	if x.slots[i].at != 0 { // a free slot has hash 0
		x.remove(i)
	}
}

// remove frees the slot i, and moves those behind it that would not be found any more.
func (x *index) remove(i int) {
	mask := len(x.slots) - 1
	for j := x.next(i); x.slots[j].at != 0; j = x.next(j) {
		if (j-x.home(x.slots[j].hash))&mask >= (j-i)&mask { // its search passes i
			x.slots[i] = x.slots[j]
			i = j
		}
	}
	x.slots[i] = slot{}
	x.live--
}

// retain removes all places for which keep returns false, and makes the table smaller if a quarter is enough. The latter
// needs memory, the former does not.
func (x *index) retain(keep func(place) bool) {
	for i := 0; i < len(x.slots); {
		if at := x.slots[i].at; at == 0 || keep(at) {
			i++
			continue
		}
		x.remove(i) // another may be here now
	}
	n := len(x.slots)
	for n > minSlots && x.live*4 <= n {
		n /= 2
	}
	if n <= len(x.slots)/4 {
		x.resize(n)
	}
}

// resize moves the index to a table of n slots. It returns false where hakmem has no memory for it.
func (x *index) resize(n int) bool {
	bytes := uintptr(n) * uintptr(slotSize)
	p := hakmem.MallocAt(theSite(), bytes)
	if p == nil {
		return false
	}
	old := x.slots
	x.slots = unsafe.Slice((*slot)(p), n)
	clear(x.slots)
	for _, s := range old {
		if s.at != 0 {
			*x.find(s.hash) = s
		}
	}
	if old != nil {
		hakmem.FreeSlice(old)
	}
	return true
}

func (x *index) free() {
	if x.slots != nil {
		hakmem.FreeSlice(x.slots)
	}
	*x = index{}
}
