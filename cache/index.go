package cache

import (
	"unsafe"

	"github.com/hakmem/hakmem"
)

// index finds the entries of a shard by hash, and remembers hashes of some that were evicted. Both lie in one
// block outside the Go heap. The shard's lock guards it.
type index struct {
	slots   []slot // a power of two in number; at most three quarters are in use
	ghosts  []ghost
	used    int
	bytes   int64  // the block
	evicted uint32 // hashes remembered so far, modulo 2^32
}

// slot is a place of the index. An entry is in the slot that the low bits of its hash say or, if that is
// taken, in one of the next, with no free one between.
type slot struct {
	hash uint64
	at   ref // 0: free
}

// ghost is a hash that is remembered: a bucket is eight of them, one cache line, found by the low bits.
type ghost struct {
	hash uint32 // the low half
	when uint32 // how many were remembered before it; see remember
}

const (
	leastSlots  = 16
	ghostBucket = 8
	// shrinkAt: an index of which less than an eighth is in use is made smaller when memory is wanted.
	shrinkAt = 8

	slotBytes = int64(unsafe.Sizeof(slot{}) + unsafe.Sizeof(ghost{}))
	// leastIndexBytes is what the smallest index takes: a block size of hakmem's.
	leastIndexBytes = leastSlots * slotBytes
)

// full reports whether one more entry needs more slots: with linear probing, a search that fails looks at
// 8.5 slots of an index that is three quarters full, on average (Knuth, vol. 3, 6.4).
func (x *index) full() bool { return (x.used+1)*4 > len(x.slots)*3 }

// halves reports whether the entries fit into half as many slots, and one more.
func (x *index) halves() bool {
	return len(x.slots) > leastSlots && (x.used+1)*4 <= len(x.slots)/2*3
}

// newIndex returns an empty index, without slots if no memory is left.
func newIndex(site hakmem.Site, slots int) (x index) {
	p := allocate(site, int64(slots)*slotBytes)
	if p == nil {
		return index{}
	}
	x.slots = unsafe.Slice((*slot)(p), slots)
	x.ghosts = unsafe.Slice((*ghost)(unsafe.Add(p, uintptr(slots)*unsafe.Sizeof(slot{}))), slots)
	clear(x.slots)
	clear(x.ghosts)
	x.bytes = int64(hakmem.UsableSize(p))
	return x
}

func (x *index) free() {
	hakmem.Free(unsafe.Pointer(unsafe.SliceData(x.slots)))
	*x = index{}
}

// resize moves everything to an index with another number of slots. It returns false, and nothing has
// changed, if no memory is left.
func (x *index) resize(site hakmem.Site, slots int) bool {
	to := newIndex(site, slots)
	if to.slots == nil {
		return false
	}
	for _, s := range x.slots {
		if s.at != 0 {
			to.add(s.hash, s.at)
		}
	}
	for _, g := range x.ghosts {
		if g != (ghost{}) {
			*to.oldestGhost(g.hash, x.evicted) = g
		}
	}
	to.evicted = x.evicted
	x.free()
	*x = to
	return true
}

func (x *index) mask() uint64 { return uint64(len(x.slots) - 1) }

// find returns the slot of a key, or -1.
func (x *index) find(hash uint64, key string) int {
	for i := hash & x.mask(); x.slots[i].at != 0; i = (i + 1) & x.mask() {
		if x.slots[i].hash == hash && x.slots[i].at.entry().keyString() == key {
			return int(i)
		}
	}
	return -1
}

// slotOf returns the slot of an entry that is in the index.
func (x *index) slotOf(hash uint64, at ref) int {
	i := hash & x.mask()
	for x.slots[i].at != at {
		if x.slots[i].at == 0 {
			panic("cache: an entry of a queue is not in the index")
		}
		i = (i + 1) & x.mask()
	}
	return int(i)
}

// add enters an entry whose key is not there. There must be a free slot.
func (x *index) add(hash uint64, at ref) {
	i := hash & x.mask()
	for x.slots[i].at != 0 {
		i = (i + 1) & x.mask()
	}
	x.slots[i] = slot{hash, at}
	x.used++
}

// remove frees a slot. Entries behind it move up where the free slot would hide them.
func (x *index) remove(at int) {
	hole := uint64(at)
	for i := (hole + 1) & x.mask(); x.slots[i].at != 0; i = (i + 1) & x.mask() {
		home := x.slots[i].hash & x.mask()
		if (i-home)&x.mask() >= (i-hole)&x.mask() {
			x.slots[hole] = x.slots[i]
			hole = i
		}
	}
	x.slots[hole] = slot{}
	x.used--
}

func (x *index) bucket(hash uint32) []ghost {
	start := int(hash) & (len(x.ghosts)/ghostBucket - 1) * ghostBucket
	return x.ghosts[start : start+ghostBucket]
}

func (x *index) oldestGhost(hash uint32, now uint32) *ghost {
	b := x.bucket(hash)
	oldest := &b[0]
	for i := range b {
		if b[i] == (ghost{}) {
			return &b[i]
		}
		if now-b[i].when > now-oldest.when {
			oldest = &b[i]
		}
	}
	return oldest
}

// remember notes the hash of an entry that is evicted.
func (x *index) remember(hash uint64) {
	*x.oldestGhost(uint32(hash), x.evicted) = ghost{uint32(hash), x.evicted}
	x.evicted++
}

// recall reports whether the hash was remembered, and is one of as many as there are entries. It is not
// remembered then any more. In rare cases another key had the same half of its hash; that key then enters
// the main queue too early, which does no harm.
func (x *index) recall(hash uint64) bool {
	b := x.bucket(uint32(hash))
	for i := range b {
		if b[i] != (ghost{}) && b[i].hash == uint32(hash) {
			known := x.evicted-b[i].when <= uint32(x.used)
			b[i] = ghost{}
			return known
		}
	}
	return false
}
