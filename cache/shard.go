package cache

import (
	"hash/maphash"
	"sync"

	"github.com/hakmem/hakmem"
)

// shard is a complete cache for the keys whose hash selects it. mu guards all of it, except what is
// set once. Its methods are called with mu held, except those named locked. They
// add the entries that they remove to out, for the caller to dispose of once mu is free.
type shard struct {
	hash hasher // set once
	site hakmem.Site
	now  func() moment

	mu          sync.Mutex
	max         int64 // bytes is at most that whenever mu is free
	index       index
	small, main queue
	expiring    int // entries with a time to live
	hand        int // the slot where the sweep goes on
	closed      bool
	counts      counts
	_           [64]byte // keeps the locks of neighbours on different cache lines
}

// counts are what a shard has done so far.
type counts struct {
	hits, misses, sets uint64
	removed            [numReasons]uint64
	valueBytes         int64 // of the entries that there are
}

// hasher computes hashes of keys. mask has all bits set, except in tests.
type hasher struct {
	seed maphash.Seed
	mask uint64
}

func (h hasher) of(key string) uint64 { return maphash.String(h.seed, key) & h.mask }

const (
	// smallShare and mostReads are the paper's: a tenth of the bytes, and two bits of counter.
	smallShare = 10
	mostReads  = 3
	// promotedAt is the paper's: more than one read.
	promotedAt = 2
	// indexShare: the index takes at most half of the bytes. With entries of the least size it takes a third.
	indexShare = 2
	// sweptSlots: the headers of eight entries are read in about the time that a Set takes otherwise. An index
	// of a million slots has been swept after 131,072 Sets.
	sweptSlots = 8
)

// bytes is what the shard's bound counts.
func (s *shard) bytes() int64 { return s.index.bytes + s.small.bytes + s.main.bytes }

// room is the most that one entry may take.
func room(max int64) int64 { return min(max-leastIndexBytes, mostEntryBytes) }

func (s *shard) queue(of *entry) *queue {
	if of.at == inMain {
		return &s.main
	}
	return &s.small
}

// lookup returns the entry of a key, or nil if there is none or it has expired; then it is removed.
func (s *shard) lookup(hash uint64, key string, out *removed) *entry {
	i := s.index.find(hash, key)
	if i < 0 {
		return nil
	}
	e := s.index.slots[i].at.entry()
	if e.expired(s.now) {
		s.remove(i, Expired, out)
		return nil
	}
	return e
}

// lockedLease takes the lock and returns the entry of a key with a reference for the caller, or nil, and counts a hit or a
// miss.
func (s *shard) lockedLease(hash uint64, key string) (e *entry, out removed) {
	s.mu.Lock()
	defer s.mu.Unlock() // Options.Now may panic
	if s.closed {
		return nil, out
	}
	e = s.lookup(hash, key, &out)
	if e == nil {
		s.counts.misses++
		return nil, out
	}
	s.counts.hits++
	e.reads = min(e.reads+1, mostReads)
	e.refs.Add(1)
	return e, out
}

// lockedContains takes the lock and reports whether a key has a value that has not expired.
func (s *shard) lockedContains(hash uint64, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	i := s.index.find(hash, key)
	return i >= 0 && !s.index.slots[i].at.entry().expired(s.now)
}

// lockedPut takes the lock and enters e.
func (s *shard) lockedPut(hash uint64, e *entry) (out removed, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.put(hash, e, &out)
	return out, err
}

// lockedTake takes the lock and removes the entry of a key, if there is one. It also reports whether the cache is
// closed.
func (s *shard) lockedTake(hash uint64, key string, why Reason) (closed, found bool, out removed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found = !s.closed && s.take(hash, key, why, &out) != nil
	return s.closed, found, out
}

// put enters e, which is in no queue, in place of the key's earlier entry, and evicts until it fits. On an
// error e is not in the cache, and neither is the earlier entry.
func (s *shard) put(hash uint64, e *entry, out *removed) error {
	if s.closed {
		return ErrClosed
	}
	s.sweep(out)
	again := s.take(hash, e.keyString(), Replaced, out)
	if again != nil {
		e.at, e.reads = again.at, again.reads
	} else if s.index.recall(hash) {
		e.at = inMain
	}
	cost := e.cost()
	if cost > room(s.max) {
		return &TooLargeError{cost, room(s.max)}
	}
	s.fit(s.max-cost, Evicted, out)
	for s.index.full() {
		if !s.grow(cost) {
			s.evict(Evicted, out)
		}
	}
	if s.bytes()+cost > s.max { // without entries the index had to become smaller, and there was no memory for it
		return noMemory(leastIndexBytes)
	}
	s.index.add(hash, e.ref())
	s.queue(e).push(e, cost)
	s.counts.sets++
	s.counts.valueBytes += int64(e.valueLen)
	if e.expires != 0 {
		s.expiring++
	}
	return nil
}

// take removes the entry of a key and returns it, or nil if there was none.
func (s *shard) take(hash uint64, key string, why Reason, out *removed) *entry {
	e := s.lookup(hash, key, out)
	if e != nil {
		s.remove(s.index.slotOf(hash, e.ref()), why, out)
	}
	return e
}

// remove takes an entry out. Its fields that the policy uses stay as they were until it is disposed of.
func (s *shard) remove(slot int, why Reason, out *removed) {
	e := s.index.slots[slot].at.entry()
	s.index.remove(slot)
	s.queue(e).remove(e, e.cost())
	if e.expires != 0 {
		s.expiring--
	}
	s.counts.valueBytes -= int64(e.valueLen)
	s.counts.removed[why]++
	e.reason = why
	out.push(e)
}

// removeEntry is remove for an entry of a queue. It returns the hash of its key.
func (s *shard) removeEntry(e *entry, why Reason, out *removed) (hash uint64) {
	hash = s.hash.of(e.keyString())
	s.remove(s.index.slotOf(hash, e.ref()), why, out)
	return hash
}

// evict removes the entry that is worth least. There must be one. An entry that was read goes around the main
// queue three times at most, so that the steps are paid by the reads.
func (s *shard) evict(why Reason, out *removed) {
	for {
		q := &s.main
		if q.oldest == 0 || s.small.oldest != 0 && s.small.bytes > s.max/smallShare {
			q = &s.small
		}
		e := q.oldest.entry()
		switch {
		case e.expired(s.now):
			s.removeEntry(e, Expired, out)
			return
		case e.at == inSmall && e.reads >= promotedAt:
			s.move(e, inMain)
			e.reads = 0
		case e.at == inMain && e.reads > 0:
			s.move(e, inMain)
			e.reads--
		default:
			hash := s.removeEntry(e, why, out)
			if e.at == inSmall {
				s.index.remember(hash)
			}
			return
		}
	}
}

// move makes e the newest of a queue.
func (s *shard) move(e *entry, to place) {
	cost := e.cost()
	s.queue(e).remove(e, cost)
	e.at = to
	s.queue(e).push(e, cost)
}

// fit evicts until the shard takes at most so many bytes, or has no entries. Then the index becomes as small as
// it can be, if there is memory for that. Where Resize left the index more than its share, it becomes smaller before
// more is evicted than that takes.
func (s *shard) fit(bytes int64, why Reason, out *removed) {
	for s.bytes() > bytes && s.index.used > 0 {
		if s.index.bytes > s.max/indexShare && s.index.halves() && s.index.resize(s.site, len(s.index.slots)/2) {
			continue
		}
		s.evict(why, out)
	}
	if s.bytes() > bytes && len(s.index.slots) > leastSlots {
		s.index.resize(s.site, leastSlots)
	}
}

// grow doubles the index, if it may and there is memory. cost is what the next entry will take.
func (s *shard) grow(cost int64) bool {
	slots := 2 * len(s.index.slots)
	more := int64(slots)*slotBytes - s.index.bytes
	return s.index.bytes+more <= s.max/indexShare && s.bytes()+more+cost <= s.max && s.index.resize(s.site, slots)
}

// compact makes the index smaller if most of it is free.
func (s *shard) compact() {
	slots := len(s.index.slots)
	for slots > leastSlots && s.index.used < slots/shrinkAt {
		slots /= 2
	}
	if slots < len(s.index.slots) {
		s.index.resize(s.site, slots)
	}
}

// sweep removes the expired entries in some slots, in turn.
func (s *shard) sweep(out *removed) {
	for range sweptSlots {
		if s.expiring == 0 {
			return
		}
		s.hand &= len(s.index.slots) - 1
		at := s.index.slots[s.hand].at
		if at != 0 && at.entry().expired(s.now) {
			s.remove(s.hand, Expired, out) // another entry may have moved there
		} else {
			s.hand++
		}
	}
}

// shrink removes entries until the shard has given up so many bytes, or has none left. It returns how many.
func (s *shard) shrink(bytes int64, out *removed) (gave int64) {
	before := s.bytes()
	for s.index.used > 0 && before-s.bytes() < bytes {
		s.evict(Shrunk, out)
	}
	if s.index.slots != nil {
		s.compact()
	}
	return before - s.bytes()
}

// clear removes all entries.
func (s *shard) clear(out *removed) {
	for _, q := range []*queue{&s.small, &s.main} {
		for q.oldest != 0 {
			s.removeEntry(q.oldest.entry(), Cleared, out)
		}
	}
	clear(s.index.ghosts)
}

// close removes all entries, gives the index back, and makes the shard refuse later calls. It returns false if
// it was closed before.
func (s *shard) close(out *removed) bool {
	if s.closed {
		return false
	}
	s.clear(out)
	s.index.free()
	s.closed = true
	return true
}
