package cache

import (
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// ref is the address of an entry, outside the Go heap, where it does not move; 0 is none. It is no pointer, so that
// the collector has nothing to look at.
type ref uintptr

// entry returns the entry. The pointer is read from the word that was stored, without arithmetic.
func (r ref) entry() *entry { return *(**entry)(unsafe.Pointer(&r)) }

// entry is the header of a block. The bytes of the key follow, then those of the value. The shard's lock guards
// what changes, except refs; once the entry is removed, the call that removed it has newer, older and reason.
type entry struct {
	newer, older     ref // of its queue; older is the next one in a list of removed entries
	expires          moment
	refs             atomic.Int32 // one of the cache, and one of each reader; the last one frees the block
	keyLen, valueLen uint32
	reads            uint8 // as far as the policy counts them
	at               place
	reason           Reason // why it was removed
}

// place is the queue that an entry is in.
type place uint8

const (
	inSmall place = iota
	inMain
)

const (
	headerBytes = int64(unsafe.Sizeof(entry{}))
	// mostEntryBytes: lengths have 32 bits.
	mostEntryBytes = math.MaxUint32
)

// newEntry returns an entry in n bytes of memory that holds key and value, or nil when no memory is left.
// The cache has the one reference.
func newEntry(site hakmem.Site, key string, value []byte, expires moment) *entry {
	e := (*entry)(allocate(site, headerBytes+int64(len(key))+int64(len(value))))
	if e == nil {
		return nil
	}
	e.newer, e.older, e.expires, e.reads, e.at, e.reason = 0, 0, expires, 0, inSmall, 0
	e.keyLen, e.valueLen = uint32(len(key)), uint32(len(value))
	e.refs.Store(1)
	copy(e.key(), key)
	copy(e.value(), value)
	return e
}

// allocate returns a block of n bytes with undefined contents, or nil.
func allocate(site hakmem.Site, n int64) unsafe.Pointer {
	if site == 0 {
		return hakmem.Malloc(uintptr(n))
	}
	return hakmem.MallocAt(site, uintptr(n))
}

func (e *entry) ref() ref { return ref(unsafe.Pointer(e)) }

func (e *entry) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(e), headerBytes)), int(e.keyLen)+int(e.valueLen))
}

func (e *entry) key() []byte   { return e.bytes()[:e.keyLen:e.keyLen] }
func (e *entry) value() []byte { return e.bytes()[e.keyLen:] }

// keyString is the key as a string, valid as long as the entry.
func (e *entry) keyString() string {
	b := e.key()
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// cost is what the entry's block takes.
func (e *entry) cost() int64 { return int64(hakmem.UsableSize(unsafe.Pointer(e))) }

func (e *entry) expired(now func() moment) bool { return e.expires != 0 && now() >= e.expires }

// release gives back a reference. The caller must not use the entry afterwards.
func (e *entry) release() {
	if e.refs.Add(-1) == 0 {
		hakmem.Free(unsafe.Pointer(e))
	}
}

// removed is a list of entries that were removed from a shard, linked by older. The cache still has its
// references to them.
type removed struct{ first, last ref }

func (r *removed) push(e *entry) {
	e.older = 0
	if r.first == 0 {
		r.first = e.ref()
	} else {
		r.last.entry().older = e.ref()
	}
	r.last = e.ref()
}

func (r *removed) pop() *entry {
	e := r.first.entry()
	r.first = e.older
	return e
}

// free gives back the cache's references.
func (r *removed) free() {
	for r.first != 0 {
		r.pop().release()
	}
}

// queue is a list of entries in the order in which they came.
type queue struct {
	newest, oldest ref
	bytes          int64 // their blocks
}

func (q *queue) push(e *entry, cost int64) {
	e.newer, e.older = 0, q.newest
	if q.newest == 0 {
		q.oldest = e.ref()
	} else {
		q.newest.entry().newer = e.ref()
	}
	q.newest = e.ref()
	q.bytes += cost
}

func (q *queue) remove(e *entry, cost int64) {
	if e.newer == 0 {
		q.newest = e.older
	} else {
		e.newer.entry().older = e.older
	}
	if e.older == 0 {
		q.oldest = e.newer
	} else {
		e.older.entry().newer = e.newer
	}
	q.bytes -= cost
}
