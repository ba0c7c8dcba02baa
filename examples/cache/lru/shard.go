package lru

import "sync"

// shard is one lock's share of the cache: a complete LRU cache for the keys whose hash selects it.
// It owns its blocks. The caller holds mu for every method.
//
// A chained hash table finds a slot, and a ring through the slots keeps the order of use. All links
// are slot indexes, so that the block is the only pointer that the garbage collector finds in a slot:
//
//	heads [ 0 | 3 | 0 | 1 ]          hash & (len-1) → first slot of the chain
//	            │       └──────────────┐
//	slots [ sentinel | 1: next 2 | 2: next 0 | 3: next 0 | … ]
//	          ring of older/newer links: 0 → most recent → … → least recent → 0
//
// Slot 0 is the ring's sentinel, so index 0 also means "none" in a chain. Unused slots are chained
// through next, too.
type shard struct {
	mu     sync.Mutex
	limit  int64 // bytes stays at or below it whenever mu is free
	heads  []uint32
	slots  []slot
	unused uint32
	closed bool
	stats  Stats
	_      [64]byte // keeps neighbouring shards' locks on different cache lines
}

// slot describes one entry. The block holds the key's bytes, then the value's.
type slot struct {
	hash         uint64
	block        []byte
	keyLen       uint32
	next         uint32 // of the chain
	newer, older uint32 // of the ring
}

// minBuckets is the size of an empty hash table; it doubles when there are more
// entries than buckets.
const minBuckets = 16

func (s *shard) init(limit int64) {
	s.limit = limit
	s.heads = make([]uint32, minBuckets)
	s.slots = make([]slot, 1, minBuckets)
}

// head returns the place that holds the index of the first slot in the hash's chain.
func (s *shard) head(hash uint64) *uint32 {
	return &s.heads[hash&uint64(len(s.heads)-1)]
}

// find returns the key's slot, or 0. It distinguishes keys with equal hashes by their bytes.
func (s *shard) find(hash uint64, key string) uint32 {
	for i := *s.head(hash); i != 0; i = s.slots[i].next {
		e := &s.slots[i]
		if e.hash == hash && int(e.keyLen) == len(key) && string(e.block[:e.keyLen]) == key {
			return i
		}
	}
	return 0
}

// use finds the key's value, makes it the most recent one and counts the hit or
// the miss. The value is valid while mu stays held.
func (s *shard) use(hash uint64, key string) (value []byte, found bool) {
	if s.closed {
		return nil, false
	}
	i := s.find(hash, key)
	if i == 0 {
		s.stats.Misses++
		return nil, false
	}
	s.stats.Hits++
	if s.slots[0].older != i {
		s.unlink(i)
		s.link(i)
	}
	e := &s.slots[i]
	b := e.block
	return b[e.keyLen:], true
}

// put makes the block, which holds key and value, the key's entry, and takes ownership of the
// block. It removes the key's previous value, and the least recently used entries until the new one
// fits. It fits in the end because cost ≤ limit.
func (s *shard) put(hash uint64, key string, block []byte, cost int64) error {
	if s.closed {
		return ErrClosed
	}
	if i := s.find(hash, key); i != 0 {
		s.remove(i)
	}
	for s.stats.Bytes+cost > s.limit {
		s.evict()
	}
	if s.stats.Len == len(s.heads) {
		s.grow()
	}
	i := s.unused
	if i != 0 {
		s.unused = s.slots[i].next
	} else {
		i = uint32(len(s.slots))
		s.slots = append(s.slots, slot{})
	}
	head := s.head(hash)
	s.slots[i] = slot{hash: hash, block: block, keyLen: uint32(len(key)), next: *head}
	*head = i
	s.link(i)
	s.stats.Sets++
	s.stats.Len++
	s.stats.Bytes += cost
	s.stats.ValueBytes += int64(len(block) - len(key))
	return nil
}

// remove takes the entry out.
func (s *shard) remove(i uint32) {
	e := &s.slots[i]
	at := s.head(e.hash)
	for *at != i {
		at = &s.slots[*at].next
	}
	*at = e.next
	s.unlink(i)

	n := len(e.block)
	s.stats.Len--
	s.stats.Bytes -= int64(blockSize(n))
	s.stats.ValueBytes -= int64(n) - int64(e.keyLen)
	*e = slot{next: s.unused} // and the collector frees the block
	s.unused = i
}

// evict removes the least recently used entry; there must be one.
func (s *shard) evict() {
	s.remove(s.slots[0].newer)
	s.stats.Evictions++
}

// link makes the slot the most recent of the ring.
func (s *shard) link(i uint32) {
	first := s.slots[0].older
	s.slots[i].newer, s.slots[i].older = 0, first
	s.slots[first].newer = i
	s.slots[0].older = i
}

// unlink takes the slot out of the ring.
func (s *shard) unlink(i uint32) {
	e := &s.slots[i]
	s.slots[e.newer].older = e.older
	s.slots[e.older].newer = e.newer
}

// grow doubles the hash table.
func (s *shard) grow() {
	s.heads = make([]uint32, 2*len(s.heads))
	for i := s.slots[0].older; i != 0; i = s.slots[i].older {
		head := s.head(s.slots[i].hash)
		s.slots[i].next = *head
		*head = i
	}
}

// close drops every block and makes the shard refuse later calls. It returns false if it had been
// called before.
func (s *shard) close() bool {
	if s.closed {
		return false
	}
	for s.stats.Len > 0 {
		s.remove(s.slots[0].newer)
	}
	s.closed, s.heads, s.slots = true, nil, nil
	return true
}
