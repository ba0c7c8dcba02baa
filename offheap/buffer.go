package offheap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"unicode/utf8"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// Buffer is a buffer of bytes with a reading position, like [bytes.Buffer]: writes append, reads go
// on from the position. The bytes are in chunks of hakmem's memory, so that growth copies nothing. The
// zero Buffer is empty and ready for use; [NewBuffer] makes one with options.
//
// The methods that bytes.Buffer has too do the same here, except that Bytes, Peek and Next may have to
// copy, that Reset gives memory back, and that where bytes.Buffer panics with ErrTooLarge they panic
// with [*hakmem.OutOfMemoryError]; then the Buffer has the contents that it had. In addition a Buffer
// is an [io.Seeker] and an [io.ReaderAt].
//
// A Buffer holds what was read until the next write, so that Seek can go back to it, and gives it up
// then. Every method whose name begins with Write is a write, and so is ReadFrom, except WriteTo, which
// reads. So a Buffer that is written and read in turn needs memory for what is between the two. Offsets
// (of [Buffer.Seek] and [Buffer.ReadAt]) are counted in bytes from the first byte that is held.
//
// A slice that a method returns is hakmem's memory where the method says so. It is then valid until the
// next call of any method except Len, Cap and ReadAt, and as long as the Buffer is reachable. A slice of
// bytes that were read (of Next) cannot be what a write of the same Buffer appends.
//
// The Buffer owns its memory: call [Buffer.Release] when it is no longer needed. A Buffer that becomes
// unreachable with memory is counted and reported (see the package comment). For that a new Buffer costs
// several times as much as a new bytes.Buffer; one that is used again, after Reset or Release, does not.
// A Buffer is for one
// goroutine at a time; only ReadAt, Len and Cap may be called by several at the same time while no
// other method runs. A copy of a Buffer that has been used is the same Buffer.
type Buffer struct{ h *bufferHandle }

// BufferOptions are the options of a [Buffer]. The zero value is the default.
type BufferOptions struct {
	// Site is the site of all blocks that the Buffer allocates, see [hakmem.MallocAt]. 0 means none.
	Site hakmem.Site
	// Capacity is the number of bytes for which the Buffer has room when it is made, as after Grow. 0 means that it has no
	// memory until the first write.
	Capacity int
}

// NewBuffer returns an empty Buffer with the given options; at most one BufferOptions may be given, and without one the result
// is like a zero Buffer. It panics for a site that was not registered, for a negative capacity, and with
// [*hakmem.OutOfMemoryError] when no memory is left. Any goroutine may call it.
func NewBuffer(options ...BufferOptions) *Buffer {
	o := only("NewBuffer", options)
	mustBeCapacity("NewBuffer", o.Capacity)
	mustBeSite(o.Site)
	b := new(Buffer)
	b.open().site = o.Site
	if o.Capacity > 0 {
		b.Grow(o.Capacity)
	}
	return b
}

// bufferHandle is what the copies of a Buffer share. When none is left it is unreachable, and the rope
// is freed. The rope is an object of its own because the cleanup must not refer to the handle.
type bufferHandle struct {
	*rope
	last lastRead
}

// lastRead says what the last method was, for UnreadByte and UnreadRune: a positive one is the number
// of bytes of the rune that was read.
type lastRead int8

const (
	readNothing lastRead = 0
	readBytes   lastRead = -1
)

// minRead is for how many bytes ReadFrom asks at least. It is bytes.MinRead.
const minRead = bytes.MinRead

var _ interface {
	io.Reader
	io.Writer
	io.ReaderFrom
	io.WriterTo
	io.ByteScanner
	io.ByteWriter
	io.RuneScanner
	io.StringWriter
	io.Seeker
	io.ReaderAt
} = (*Buffer)(nil)

// open returns the handle. Every method ends with runtime.KeepAlive: else the collector could find the
// Buffer unreachable in the middle of its last call, and the cleanup would run at the same time.
func (b *Buffer) open() *bufferHandle {
	if b.h == nil {
		b.h = &bufferHandle{rope: &rope{}}
		runtime.AddCleanup(b.h, abandonRope, b.h.rope)
	}
	return b.h
}

// use returns the handle for a method after which nothing can be unread, unless it sets last.
func (b *Buffer) use() *bufferHandle {
	h := b.open()
	h.last = readNothing
	return h
}

func abandonRope(r *rope) {
	if len(r.chunks) > 0 {
		buffers.abandon(r.by, uint64(r.bytes()), r.release)
	}
}

// append is the body of the methods that write.
func (b *Buffer) append(p []byte) {
	h := b.use()
	h.forget()
	h.write(p)
	runtime.KeepAlive(b)
}

// Write appends p, which it copies. It returns len(p) and no error.
func (b *Buffer) Write(p []byte) (n int, err error) {
	b.append(p)
	return len(p), nil
}

// WriteString appends s. It returns len(s) and no error.
func (b *Buffer) WriteString(s string) (n int, err error) {
	b.append(unsafe.Slice(unsafe.StringData(s), len(s)))
	return len(s), nil
}

// WriteByte appends c. It returns no error.
func (b *Buffer) WriteByte(c byte) error {
	p := [1]byte{c}
	b.append(p[:])
	return nil
}

// WriteRune appends the UTF-8 encoding of r, which is that of U+FFFD if r is no valid rune. It returns
// the number of bytes and no error.
func (b *Buffer) WriteRune(r rune) (n int, err error) {
	var p [utf8.UTFMax]byte
	n = utf8.EncodeRune(p[:], r)
	b.append(p[:n])
	return n, nil
}

// ReadFrom appends what it reads from r until io.EOF, and returns the number of bytes and any other
// error. It reads into hakmem's memory, at least 512 bytes at a time. It panics if r returns a number
// of bytes that is negative or larger than the slice it was given; those bytes are not appended. It also panics
// if r has written to the Buffer, truncated, reset or released it.
func (b *Buffer) ReadFrom(r io.Reader) (n int64, err error) {
	h := b.use()
	h.forget()
	defer runtime.KeepAlive(b)
	for {
		p, end := h.free(minRead), h.end
		m, err := r.Read(p)
		if h.end != end || len(h.rope.chunks) == 0 {
			panic(fmt.Sprintf("offheap: Buffer.ReadFrom: Read of %T has changed the Buffer that it reads for: correct that Read", r))
		}
		if m < 0 || m > len(p) {
			panic(fmt.Sprintf("offheap: Buffer.ReadFrom: Read of %T returned %d for a slice of %d bytes: correct that Read", r, m, len(p)))
		}
		h.wrote(m)
		n += int64(m)
		switch err {
		case nil:
		case io.EOF:
			return n, nil
		default:
			return n, err
		}
	}
}

// Grow makes room for n bytes, so that writing them allocates no memory. They may come to lie in two
// chunks or more. It panics if n is negative.
func (b *Buffer) Grow(n int) {
	mustNotBeNegative("Grow", n)
	h := b.use()
	h.forget()
	h.rope.grow(n)
	runtime.KeepAlive(b)
}

func mustNotBeNegative(method string, n int) {
	if n < 0 {
		panic(fmt.Sprintf("offheap: Buffer.%s(%d): the number must not be negative", method, n))
	}
}

// Len returns the number of unread bytes.
func (b *Buffer) Len() int {
	if b.h == nil {
		return 0
	}
	n := b.h.unread()
	runtime.KeepAlive(b)
	return n
}

// Cap returns the number of bytes in the Buffer's chunks.
func (b *Buffer) Cap() int {
	if b.h == nil {
		return 0
	}
	n := b.h.bytes()
	runtime.KeepAlive(b)
	return n
}

// Read copies unread bytes to p and goes on behind them. It returns how many there were, and io.EOF if
// there were none and p is not empty.
func (b *Buffer) Read(p []byte) (n int, err error) {
	h := b.use()
	if len(p) > 0 && h.unread() == 0 {
		return 0, io.EOF
	}
	n = h.read(p)
	if n > 0 {
		h.last = readBytes
	}
	runtime.KeepAlive(b)
	return n, nil
}

// ReadByte returns the next unread byte, or io.EOF.
func (b *Buffer) ReadByte() (byte, error) {
	h := b.use()
	front := h.front()
	if len(front) == 0 {
		return 0, io.EOF
	}
	c := front[0]
	h.pos++
	h.last = readBytes
	runtime.KeepAlive(b)
	return c, nil
}

// UnreadByte goes back by one byte. It returns an error, and does nothing, if the last call was not one
// that read at least one byte.
func (b *Buffer) UnreadByte() error {
	if b.h == nil || b.h.last == readNothing {
		return errors.New("offheap: Buffer.UnreadByte: the last call did not read a byte")
	}
	b.goBack(1)
	return nil
}

// ReadRune returns the next rune and the number of its bytes, or io.EOF. For bytes that are no UTF-8 it
// reads one byte and returns U+FFFD and 1.
func (b *Buffer) ReadRune() (r rune, size int, err error) {
	h := b.use()
	if h.unread() == 0 {
		return 0, 0, io.EOF
	}
	front := h.front()
	if utf8.FullRune(front) {
		r, size = utf8.DecodeRune(front)
	} else { // it may go on in the next chunk
		var p [utf8.UTFMax]byte
		r, size = utf8.DecodeRune(p[:h.readAt(p[:], h.pos)])
	}
	h.pos += place(size)
	h.last = lastRead(size)
	runtime.KeepAlive(b)
	return r, size, nil
}

// UnreadRune goes back by the rune that was read. It returns an error, and does nothing, if the last
// call was not a ReadRune that returned one.
func (b *Buffer) UnreadRune() error {
	if b.h == nil || b.h.last <= readNothing {
		return errors.New("offheap: Buffer.UnreadRune: the last call was not a ReadRune that returned a rune")
	}
	b.goBack(int(b.h.last))
	return nil
}

func (b *Buffer) goBack(n int) {
	h := b.use()
	h.seek(h.pos - place(n))
	runtime.KeepAlive(b)
}

// ReadBytes reads up to the first delim, and returns a copy on the Go heap of what it read, with the
// delim. If there is no delim it reads and returns all unread bytes, with io.EOF.
func (b *Buffer) ReadBytes(delim byte) (line []byte, err error) {
	h := b.use()
	err = io.EOF
	for err != nil && h.pos < h.end {
		front := h.front()
		if i := bytes.IndexByte(front, delim); i >= 0 {
			front, err = front[:i+1], nil
		}
		line = append(line, front...)
		h.pos += place(len(front))
	}
	h.last = readBytes
	if len(line) == 0 {
		h.last = readNothing
	}
	runtime.KeepAlive(b)
	return line, err
}

// ReadString is [Buffer.ReadBytes] with a string as its result.
func (b *Buffer) ReadString(delim byte) (line string, err error) {
	p, err := b.ReadBytes(delim)
	return unsafe.String(unsafe.SliceData(p), len(p)), err // nobody else has p
}

// Next returns the next n unread bytes, or all if there are fewer, and goes on behind them. The slice
// is hakmem's memory. Bytes that lie in several chunks are copied to a chunk of their own first. Next
// panics if n is negative.
func (b *Buffer) Next(n int) []byte {
	mustNotBeNegative("Next", n)
	h := b.use()
	p := h.gather(min(n, h.unread()))
	h.pos += place(len(p))
	if len(p) > 0 {
		h.last = readBytes
	}
	runtime.KeepAlive(b)
	return p
}

// Peek returns what [Buffer.Next] would return, and stays where it is. If there are fewer than n bytes
// it also returns io.EOF.
func (b *Buffer) Peek(n int) ([]byte, error) {
	mustNotBeNegative("Peek", n)
	h := b.open()
	p := h.gather(min(n, h.unread()))
	runtime.KeepAlive(b)
	if len(p) < n {
		return p, io.EOF
	}
	return p, nil
}

// Bytes returns all unread bytes. The slice is hakmem's memory. If they lie in several chunks, Bytes
// first copies them to one chunk, which has room for a quarter more, and frees the others. That
// needs memory for both at the same time: [Buffer.Segments] and [Buffer.WriteTo] need none.
func (b *Buffer) Bytes() []byte {
	h := b.open()
	p := h.gather(h.unread())
	runtime.KeepAlive(b)
	return p
}

// Segments appends slices to dst that together are all unread bytes, and returns the result, which
// converts to net.Buffers. The slices are hakmem's memory; nothing is copied. The reading position
// stays where it is:
//
//	segments := net.Buffers(b.Segments(nil))
//	n, err := segments.WriteTo(connection) // one writev for up to 1024 of them
//	b.Reset()
func (b *Buffer) Segments(dst [][]byte) [][]byte {
	h := b.open()
	for i, p := h.find(h.pos), h.pos; p < h.end; i++ {
		if s := h.chunks[i].rest(p); len(s) > 0 {
			dst = append(dst, s)
			p += place(len(s))
		}
	}
	runtime.KeepAlive(b)
	return dst
}

// String returns a copy of the unread bytes on the Go heap, and "<nil>" if b is nil.
func (b *Buffer) String() string {
	if b == nil {
		return "<nil>"
	}
	if b.h == nil || b.h.unread() == 0 {
		return ""
	}
	p := make([]byte, b.h.unread())
	b.h.readAt(p, b.h.pos)
	runtime.KeepAlive(b)
	return unsafe.String(&p[0], len(p)) // nobody else has p
}

// WriteTo reads: it writes the bytes that were unread when it was called to w, chunk by chunk, until w
// has all or returns an error, and goes on behind what was written. It returns the number of bytes and the error, which is
// io.ErrShortWrite if w wrote less than it was given and returned none. It panics if w returns a number
// of bytes that is negative or larger than what it was given. It also panics if w has read from the Buffer,
// truncated, reset or released it; w may append to it.
func (b *Buffer) WriteTo(w io.Writer) (n int64, err error) {
	h := b.use()
	defer runtime.KeepAlive(b)
	for left := h.unread(); left > 0; {
		p := h.front()
		p = p[:min(left, len(p))] // w may be this Buffer
		pos := h.pos
		m, err := w.Write(p)
		if h.pos != pos || h.unread() < len(p) {
			panic(fmt.Sprintf("offheap: Buffer.WriteTo: Write of %T has changed the Buffer that is written to it: correct that Write", w))
		}
		if m < 0 || m > len(p) {
			panic(fmt.Sprintf("offheap: Buffer.WriteTo: Write of %T returned %d for a slice of %d bytes: correct that Write", w, m, len(p)))
		}
		h.pos += place(m)
		n += int64(m)
		left -= m
		if err == nil && m < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// ReadAt copies the bytes from an offset on to p, those that were read among them. The offset is in
// bytes from the first byte that is held (see [Buffer]). ReadAt returns how many bytes there were, with
// io.EOF if they are fewer than len(p), and an error for a negative offset. The reading position does
// not change.
func (b *Buffer) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("offheap: Buffer.ReadAt: offset %d: it must not be negative", offset)
	}
	if b.h != nil && offset < int64(b.h.end-b.h.base) {
		n = b.h.readAt(p, b.h.base+place(offset))
		runtime.KeepAlive(b)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Seek sets the reading position to an offset in bytes and returns it as one from the first byte that
// is held (see [Buffer]). whence says from where the offset counts: io.SeekStart is the first byte that
// is held, io.SeekCurrent the position, io.SeekEnd the end of what was written. For a position before
// the first byte held or behind the end, and for another whence, Seek returns an error and does nothing.
//
// Writes append, wherever the position is.
func (b *Buffer) Seek(offset int64, whence int) (int64, error) {
	h := b.use()
	held, at := int64(h.end-h.base), int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		at = int64(h.pos - h.base)
	case io.SeekEnd:
		at = held
	default:
		return 0, fmt.Errorf("offheap: Buffer.Seek: whence %d: use io.SeekStart, io.SeekCurrent or io.SeekEnd", whence)
	}
	to := at + offset // negative if it wraps
	if to < 0 || to > held {
		return 0, fmt.Errorf("offheap: Buffer.Seek: offset %d from %d: the result must be from 0 to %d, the bytes that are held", offset, at, held)
	}
	h.seek(h.base + place(to))
	runtime.KeepAlive(b)
	return to, nil
}

// Truncate drops all unread bytes except the first n. It keeps the memory, except that Truncate(0) is
// [Buffer.Reset]. It panics if n is negative or larger than Len.
func (b *Buffer) Truncate(n int) {
	h := b.use()
	switch {
	case n < 0 || n > h.unread():
		panic(fmt.Sprintf("offheap: Buffer.Truncate(%d): use 0 to %d, the number of unread bytes", n, h.unread()))
	case n == 0:
		h.reset()
	default:
		h.truncate(n)
	}
	runtime.KeepAlive(b)
}

// Reset drops all bytes, those that were read among them. It keeps one chunk, the largest that is not
// larger than 1 MiB, for what is written next, and frees the others.
func (b *Buffer) Reset() {
	if b.h != nil {
		b.use().reset()
		runtime.KeepAlive(b)
	}
}

// Release drops all bytes and frees all memory. After that the Buffer is empty, may be used again, and
// needs no Release until it is written to. Release of an empty Buffer does nothing.
func (b *Buffer) Release() {
	if b.h != nil {
		b.use().release()
		runtime.KeepAlive(b)
	}
}
