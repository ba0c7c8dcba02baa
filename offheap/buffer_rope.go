package offheap

import (
	"slices"
	"sort"

	"github.com/hakmem/hakmem"
)

// This file is the memory of a Buffer: a rope. Nothing in it is exported.

const (
	// firstChunk is the size of a rope's first chunk, in bytes: bytes.MinRead, the least that ReadFrom
	// asks a reader for. Each further chunk is as large as all that is held then, so that the size
	// doubles, and at most lastChunk. So less than half of the memory is unused, or less than
	// lastChunk; and 1024 segments, as many as writev takes at once, are a gigabyte.
	firstChunk = 512
	lastChunk  = 1 << 20
)

// place is where a byte is: how many were written before it since the rope was last empty of chunks or
// Reset. The place of a byte does not change when bytes in front of it are forgotten.
type place int64

// chunk is a block of hakmem's. mem[from:to] holds the bytes from the place at on.
type chunk struct {
	mem      []byte
	from, to int
	at       place
}

func (c *chunk) end() place { return c.at + place(c.to-c.from) }

// rest returns the chunk's bytes from a place on.
func (c *chunk) rest(p place) []byte { return c.mem[c.from+int(p-c.at) : c.to : c.to] }

// free gives the chunk's memory back. The chunk is empty before, because the free panics if it finds
// that some block was misused earlier.
func (c *chunk) free() {
	mem := c.mem
	*c = chunk{at: c.at}
	hakmem.FreeBytes(mem)
}

// rope is a sequence of bytes in chunks. The bytes between base and pos were read, and are held so
// that the reader can go back to them. Those between pos and end were not.
type rope struct {
	chunks         []chunk
	base, pos, end place
	// reader is the chunk with pos, or one before it. writer is the chunk that takes the next byte; the
	// chunks behind it are empty. Both are 0 if there are no chunks.
	reader, writer int
	room           int    // how many bytes the writer and the chunks behind it can take
	by             *stack // of the call that made the first chunk
	site           hakmem.Site
}

func (r *rope) unread() int { return int(r.end - r.pos) }

// bytes returns the size of all chunks.
func (r *rope) bytes() (n int) {
	for i := range r.chunks {
		n += len(r.chunks[i].mem)
	}
	return n
}

// grow makes room for n bytes, by one chunk at most.
func (r *rope) grow(n int) {
	if n <= r.room {
		return
	}
	held := int(r.end - r.base)
	size := max(n-r.room, min(max(held, firstChunk), lastChunk))
	mem := r.alloc(size)
	if len(r.chunks) == 0 {
		r.by = callers()
	}
	r.chunks = append(r.chunks, chunk{mem: mem, at: r.end})
	r.room += len(mem)
}

// alloc returns the memory for a chunk of size bytes or somewhat more.
func (r *rope) alloc(size int) []byte {
	n := int(hakmem.GoodSize(uintptr(size)))
	if r.site != 0 {
		return hakmem.AllocAt(r.site, n)
	}
	return hakmem.Alloc(n)
}

// write appends p.
func (r *rope) write(p []byte) {
	r.grow(len(p))
	for len(p) > 0 {
		n := copy(r.free(1), p)
		r.wrote(n)
		p = p[n:]
	}
}

// free returns the memory for the bytes that are written next, at least least bytes: if the writer has
// fewer left, another chunk becomes the writer.
func (r *rope) free(least int) []byte {
	r.grow(1)
	for {
		c := &r.chunks[r.writer]
		if left := len(c.mem) - c.to; left >= least {
			return c.mem[c.to:]
		} else if r.writer == len(r.chunks)-1 {
			r.grow(r.room + 1)
		} else {
			r.room -= left
			r.writer++
			r.chunks[r.writer].at = r.end
		}
	}
}

// wrote appends the first n bytes of what free returned.
func (r *rope) wrote(n int) {
	r.chunks[r.writer].to += n
	r.end += place(n)
	r.room -= n
}

// forget gives up the bytes that were read. Their chunks are freed, except for the writer.
func (r *rope) forget() {
	if r.pos == r.base {
		return
	}
	r.settle()
	for i := range r.reader {
		r.chunks[i].free()
	}
	r.chunks = slices.Delete(r.chunks, 0, r.reader)
	r.writer -= r.reader
	r.reader = 0
	r.base = r.pos
	c := &r.chunks[0]
	c.from += int(r.pos - c.at)
	c.at = r.pos
	if r.pos == r.end { // c is the writer
		r.room += c.to
		c.from, c.to = 0, 0
	}
}

// settle makes reader the chunk with the byte at pos, or the writer if all bytes were read.
func (r *rope) settle() {
	for r.reader < r.writer && r.pos >= r.chunks[r.reader].end() {
		r.reader++
	}
}

// front returns the unread bytes up to the end of their chunk. It is empty only if there are none.
func (r *rope) front() []byte {
	if r.pos == r.end {
		return nil
	}
	r.settle()
	return r.chunks[r.reader].rest(r.pos)
}

// read copies unread bytes to p and goes on behind them.
func (r *rope) read(p []byte) (n int) {
	for n < len(p) && r.pos < r.end {
		m := copy(p[n:], r.front())
		r.pos += place(m)
		n += m
	}
	return n
}

// readAt copies bytes from a place on to p. It changes nothing.
func (r *rope) readAt(p []byte, from place) (n int) {
	for i := r.find(from); n < len(p) && from < r.end; i++ {
		m := copy(p[n:], r.chunks[i].rest(from))
		from += place(m)
		n += m
	}
	return n
}

// find returns the chunk with the byte at a place, or the writer if there is no such byte.
func (r *rope) find(p place) int {
	return sort.Search(r.writer, func(i int) bool { return r.chunks[i].end() > p })
}

// seek makes p the reading position.
func (r *rope) seek(p place) {
	if len(r.chunks) > 0 {
		r.reader = r.find(p)
	}
	r.pos = p
}

// truncate drops the bytes behind the first n unread ones. It keeps the memory.
func (r *rope) truncate(n int) {
	r.end = r.pos + place(n)
	r.writer = r.find(r.end)
	c := &r.chunks[r.writer]
	c.to = c.from + int(r.end-c.at)
	r.clearBehind()
}

// clearBehind empties the chunks behind the writer, and counts the room.
func (r *rope) clearBehind() {
	c := &r.chunks[r.writer]
	r.room = len(c.mem) - c.to
	for i := r.writer + 1; i < len(r.chunks); i++ {
		c := &r.chunks[i]
		c.from, c.to, c.at = 0, 0, r.end
		r.room += len(c.mem)
	}
}

// gather returns the first n unread bytes as one slice. If they are in several chunks, they are copied
// to a chunk of their own first.
func (r *rope) gather(n int) []byte {
	if first := r.front(); n <= len(first) {
		return first[:n:n]
	}
	behind := r.pos + place(n)
	size := n
	if behind == r.end {
		// The chunk will be the writer. A quarter more, as append grows large slices, so that writing
		// and gathering in turn copies each byte a bounded number of times.
		size += n / 4
	}
	mem := r.alloc(size)
	r.readAt(mem[:n], r.pos)

	first, last := r.reader, r.find(behind-1)
	if c := &r.chunks[first]; r.pos > c.at {
		c.to = c.from + int(r.pos-c.at)
		first++ // it keeps what was read
	}
	if c := &r.chunks[last]; behind < c.end() {
		c.from += int(behind - c.at)
		c.at = behind
		last-- // it keeps what comes behind
	}
	for i := first; i <= last; i++ {
		r.chunks[i].free()
	}
	r.chunks = slices.Replace(r.chunks, first, last+1, chunk{mem: mem, to: n, at: r.pos})
	r.reader = first
	if behind == r.end {
		r.writer = first
	} else {
		r.writer += first - last
	}
	r.clearBehind()
	return mem[:n:n]
}

// reset drops all bytes. It keeps the largest chunk of those up to lastChunk and frees the others.
func (r *rope) reset() {
	keep := -1
	for i := range r.chunks {
		if n := len(r.chunks[i].mem); n <= lastChunk && (keep < 0 || n > len(r.chunks[keep].mem)) {
			keep = i
		}
	}
	if keep < 0 {
		r.release()
		return
	}
	for i := range r.chunks {
		if i != keep {
			r.chunks[i].free()
		}
	}
	mem := r.chunks[keep].mem
	clear(r.chunks)
	r.chunks = append(r.chunks[:0], chunk{mem: mem})
	*r = rope{chunks: r.chunks, room: len(mem), by: r.by, site: r.site}
}

// release drops all bytes and frees all chunks. The list of chunks stays for those of a later write.
func (r *rope) release() {
	chunks := r.chunks
	*r = rope{chunks: chunks[:0], site: r.site}
	for i := range chunks {
		chunks[i].free()
	}
}
