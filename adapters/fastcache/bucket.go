package fastcache

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// chunkSize is the number of bytes in a chunk, which files depend on: as many as a page of hakmem has, so that
// a chunk is one page.
const chunkSize = 64 << 10

// headSize is the number of bytes before an entry's key: two for the length of the key and two for that of the
// value, the higher one first. Key and value follow. An entry ends before the last byte of its chunk.
const headSize = 4

// maxLen is the longest key or value whose length has two bytes.
const maxLen = 1<<16 - 1

// place is where an entry begins: in the lower 40 bits its offset in the ring, above them the pass over the ring in
// which it was written, modulo 2^24 and never 0. Files depend on both widths. 0 is no place.
type place uint64

const (
	offsetBits = 40
	maxPass    = 1<<(64-offsetBits) - 1
	// maxChunks is the most chunks whose bytes have an offset.
	maxChunks = 1<<offsetBits/chunkSize - 1
)

func placeOf(gen, offset uint64) place { return place(gen<<offsetBits | offset) }
func (p place) pass() uint64           { return uint64(p) >> offsetBits }
func (p place) offset() uint64         { return uint64(p) & (1<<offsetBits - 1) }

// chunk is a part of a ring.
type chunk struct {
	bytes *[chunkSize]byte
	// written is how many bytes of it have been written since it was allocated. What lies behind is
	// undefined, and may be what another part of the program has freed.
	written int
}

// newChunk returns a chunk without bytes where hakmem has no memory.
func newChunk() chunk {
	return chunk{bytes: (*[chunkSize]byte)(hakmem.MallocAt(theSite(), chunkSize))}
}

func (c *chunk) free() { hakmem.Free(unsafe.Pointer(c.bytes)) }

// bucket is a part of a cache: a ring of chunks and the index of its entries.
type bucket struct {
	mu     sync.RWMutex
	chunks []chunk // those allocated yet, from the start of the ring
	room   uint64  // how many chunks it may have
	index  index
	gen    uint64 // counts the passes over the ring, from 1; a multiple of 2^24 is left out
	at     uint64 // where in the ring the next entry begins
	closed bool

	gets, sets, misses, collisions, corruptions, refused atomic.Uint64
}

// init makes an empty bucket of up to room chunks.
func (b *bucket) init(room uint64) { b.room, b.gen = room, 1 }

// set stores an entry.
func (b *bucket) set(k, v []byte, h hash) {
	b.sets.Add(1)
	size := headSize + len(k) + len(v)
	if len(k) > maxLen || len(v) > maxLen || size >= chunkSize {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || !b.turn(uint64(size)) {
		return
	}
	c := &b.chunks[b.at/chunkSize]
	start := int(b.at % chunkSize)
	e := c.bytes[start : start+size]
	e[0], e[1], e[2], e[3] = byte(len(k)>>8), byte(len(k)), byte(len(v)>>8), byte(len(v))
	copy(e[headSize:], k)
	copy(e[headSize+len(k):], v)
	c.written = max(c.written, start+size)
	if !b.index.put(h, placeOf(b.gen&maxPass, b.at)) {
		b.refused.Add(1)
	}
	b.at += uint64(size)
}

// turn moves to where size bytes have room in one chunk: to the next chunk, or to the start of the ring. Where
// hakmem has no memory for another chunk the ring stays as small as it is, and begins again. It returns false if
// there is no chunk at all.
func (b *bucket) turn(size uint64) bool {
	at := b.at
	if at/chunkSize != (at+size)/chunkSize {
		at = (at/chunkSize + 1) * chunkSize
	}
	if at/chunkSize == uint64(len(b.chunks)) {
		var c chunk
		if at/chunkSize < b.room {
			if c = newChunk(); c.bytes == nil {
				b.refused.Add(1)
			}
		}
		switch {
		case c.bytes != nil:
			b.chunks = append(b.chunks, c)
		case len(b.chunks) == 0:
			return false
		default:
			at = 0
			b.gen++
			if b.gen&maxPass == 0 {
				b.gen++
			}
		}
	}
	b.at = at
	if at == 0 && len(b.chunks) > 0 && b.index.live > 0 {
		b.index.retain(b.readable)
	}
	return true
}

// readable says whether the entry at a place is still there: written in this pass before where the next one
// begins, or in the pass before and behind that.
func (b *bucket) readable(p place) bool {
	now := b.gen & maxPass
	if p.offset() < b.at {
		return p.pass() == now
	}
	return p.pass()+1 == now || p.pass() == maxPass && now == 1
}

// get appends the value of an entry to dst, if it is wanted, and says whether there is one.
func (b *bucket) get(dst, k []byte, h hash, wanted bool) ([]byte, bool) {
	b.gets.Add(1)
	b.mu.RLock()
	v, ok := b.find(k, h)
	if ok && wanted {
		dst = append(dst, v...)
	}
	b.mu.RUnlock()
	if !ok {
		b.misses.Add(1)
	}
	return dst, ok
}

// find returns the value of an entry, in the chunk. What it finds may come from a file, and need not make sense.
func (b *bucket) find(k []byte, h hash) ([]byte, bool) {
	p := b.index.get(h)
	if p == 0 || !b.readable(p) {
		return nil, false
	}
	n, start := p.offset()/chunkSize, int(p.offset()%chunkSize)
	if n >= uint64(len(b.chunks)) || start+headSize > b.chunks[n].written {
		b.corruptions.Add(1)
		return nil, false
	}
	e := b.chunks[n].bytes[start:b.chunks[n].written]
	keyEnd := headSize + (int(e[0])<<8 | int(e[1]))
	end := keyEnd + (int(e[2])<<8 | int(e[3]))
	if end > len(e) {
		b.corruptions.Add(1)
		return nil, false
	}
	if string(e[headSize:keyEnd]) != string(k) {
		b.collisions.Add(1)
		return nil, false
	}
	return e[keyEnd:end], true
}

func (b *bucket) del(h hash) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.index.del(h)
}

// reset empties the bucket and gives its memory back. Readers copy while they hold the lock, so nobody reads it.
func (b *bucket) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.empty()
	for _, n := range []*atomic.Uint64{&b.gets, &b.sets, &b.misses, &b.collisions, &b.corruptions, &b.refused} {
		n.Store(0)
	}
}

func (b *bucket) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.empty()
}

func (b *bucket) empty() {
	for i := range b.chunks {
		b.chunks[i].free()
	}
	b.chunks = nil
	b.index.free()
	b.gen, b.at = 1, 0
}

// addStats adds the bucket's statistics to s.
func (b *bucket) addStats(s *Stats) {
	s.GetCalls += b.gets.Load()
	s.SetCalls += b.sets.Load()
	s.Misses += b.misses.Load()
	s.Collisions += b.collisions.Load()
	s.Corruptions += b.corruptions.Load()
	s.MemoryErrors += b.refused.Load()
	b.mu.RLock()
	defer b.mu.RUnlock()
	s.EntriesCount += uint64(b.index.live)
	s.BytesSize += uint64(len(b.chunks)) * chunkSize
	s.MaxBytesSize += b.room * chunkSize
	s.IndexBytesSize += uint64(len(b.index.slots)) * slotSize
}
