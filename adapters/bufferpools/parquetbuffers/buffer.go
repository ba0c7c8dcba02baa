package parquetbuffers

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// chunkSize is the size of a buffer's parts, in bytes: the largest block that hakmem's magazines serve by the hundred, and
// what parquet-go's own pool has.
const chunkSize = 32 << 10

// firstSize is what a small buffer begins with, in bytes. It doubles until it is a chunk, so that a column of a few
// values does not take one.
const firstSize = 1 << 10

// ErrPut is what the methods of a Buffer return after PutBuffer.
var ErrPut = errors.New("parquetbuffers: the buffer is used after PutBuffer")

// ErrNoMemory is in the error of a write for which hakmem has no memory. What was written before is kept.
var ErrNoMemory = errors.New("parquetbuffers: no memory for a buffer; raise hakmem's memory limit, or write smaller row groups")

// rope is the memory of a buffer. All its chunks have chunkSize bytes, except for a first one that is alone.
type rope struct {
	site   hakmem.Site
	chunks [][]byte
	length int64 // of what was written
	put    bool
}

// free gives all memory back.
func (r *rope) free() {
	for _, c := range r.chunks {
		hakmem.FreeBytes(c)
	}
	r.chunks, r.length, r.put = nil, 0, true
}

// grow makes room for a byte at the offset at, which is where the room ends, and as much behind it as it likes to.
func (r *rope) grow() error {
	size := uintptr(chunkSize)
	var p unsafe.Pointer
	switch n := len(r.chunks); {
	case n == 0:
		size = firstSize
		p = hakmem.MallocAt(r.site, size)
	case n == 1 && len(r.chunks[0]) < chunkSize:
		size = 2 * uintptr(len(r.chunks[0]))
		if p = hakmem.Realloc(unsafe.Pointer(unsafe.SliceData(r.chunks[0])), size); p != nil {
			r.chunks = r.chunks[:0]
		}
	default:
		p = hakmem.MallocAt(r.site, size)
	}
	if p == nil {
		return ErrNoMemory
	}
	r.chunks = append(r.chunks, unsafe.Slice((*byte)(p), size))
	return nil
}

// from returns the bytes from an offset to the end of its chunk, or to the end of all, and nil there.
func (r *rope) from(at int64) []byte {
	if at >= r.length {
		return nil
	}
	chunk := r.chunks[at/chunkSize]
	if left := r.length - at/chunkSize*chunkSize; left < int64(len(chunk)) {
		chunk = chunk[:left]
	}
	return chunk[at%chunkSize:]
}

// room returns where to write at an offset: up to the end of its chunk, which it makes if it is not there.
func (r *rope) room(at int64) ([]byte, error) {
	if r.put {
		return nil, ErrPut
	}
	n, start := int(at/chunkSize), int(at%chunkSize)
	for n >= len(r.chunks) || start >= len(r.chunks[n]) {
		if err := r.grow(); err != nil {
			return nil, err
		}
	}
	return r.chunks[n][start:], nil
}

// Buffer is a file in memory. It is for one goroutine at a time, except that ReadAt may be called by several while
// nothing is written.
type Buffer struct {
	rope *rope
	at   int64 // where Read and Write begin
}

// Read reads from where the buffer stands, up to the end of a chunk at most. At the end it returns io.EOF.
func (b *Buffer) Read(p []byte) (int, error) {
	n, err := b.ReadAt(p[:min(len(p), chunkSize)], b.at)
	b.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt reads len(p) bytes at an offset, or as many as there are and io.EOF.
func (b *Buffer) ReadAt(p []byte, at int64) (n int, err error) {
	defer runtime.KeepAlive(b) // or a collection could free the rope meanwhile
	switch {
	case b.rope.put:
		return 0, ErrPut
	case at < 0:
		return 0, fmt.Errorf("parquetbuffers: ReadAt(%d): offsets are not negative", at)
	}
	for n < len(p) {
		from := b.rope.from(at + int64(n))
		if from == nil {
			return n, io.EOF
		}
		n += copy(p[n:], from)
	}
	return n, nil
}

// Write writes at where the buffer stands, over what is there, and then at the end.
func (b *Buffer) Write(p []byte) (n int, err error) {
	defer runtime.KeepAlive(b)
	for n < len(p) {
		room, err := b.rope.room(b.at)
		if err != nil {
			return n, err
		}
		b.wrote(copy(room, p[n:]), &n)
	}
	if b.rope.put {
		return 0, ErrPut
	}
	return n, nil
}

// wrote adds to what was written.
func (b *Buffer) wrote(more int, n *int) {
	*n += more
	b.at += int64(more)
	b.rope.length = max(b.rope.length, b.at)
}

// ReadFrom writes all that r has, until io.EOF.
func (b *Buffer) ReadFrom(r io.Reader) (int64, error) {
	defer runtime.KeepAlive(b)
	n := 0
	for {
		room, err := b.rope.room(b.at)
		if err != nil {
			return int64(n), err
		}
		more, err := r.Read(room)
		if more < 0 || more > len(room) {
			panic(fmt.Sprintf("parquetbuffers: a Read of %T into %d bytes says it has read %d", r, len(room), more))
		}
		b.wrote(more, &n)
		switch {
		case err == io.EOF:
			return int64(n), nil
		case err != nil:
			return int64(n), err
		}
	}
}

// WriteTo writes what is behind where the buffer stands to w, without a copy. w must not keep what it is given.
func (b *Buffer) WriteTo(w io.Writer) (n int64, err error) {
	defer runtime.KeepAlive(b)
	if b.rope.put {
		return 0, ErrPut
	}
	for from := b.rope.from(b.at); from != nil; from = b.rope.from(b.at) {
		more, err := w.Write(from)
		if more < 0 || more > len(from) {
			panic(fmt.Sprintf("parquetbuffers: a Write of %T of %d bytes says it has written %d", w, len(from), more))
		}
		n += int64(more)
		b.at += int64(more)
		if err != nil {
			return n, err
		}
		if more < len(from) {
			return n, io.ErrShortWrite
		}
	}
	return n, nil
}

// Seek sets where Read and Write begin. Behind the end it is the end, as with the buffers of parquet-go's own pool.
func (b *Buffer) Seek(offset int64, whence int) (int64, error) {
	if b.rope.put {
		return 0, ErrPut
	}
	from := int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		from = b.at
	case io.SeekEnd:
		from = b.rope.length
	default:
		return 0, fmt.Errorf("parquetbuffers: Seek: whence is %d, want io.SeekStart, io.SeekCurrent or io.SeekEnd", whence)
	}
	if offset < -from {
		return 0, fmt.Errorf("parquetbuffers: Seek: to %d, which is before the start", from+offset)
	}
	b.at = from + min(offset, b.rope.length-from)
	return b.at, nil
}
