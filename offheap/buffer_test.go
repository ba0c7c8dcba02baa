package offheap_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/offheap"
)

// bufferOf returns a Buffer with the bytes of p, written in pieces so that they are in many chunks. It is
// released when the test ends.
func bufferOf(t testing.TB, p []byte, piece int) *offheap.Buffer {
	t.Helper()
	b := new(offheap.Buffer)
	t.Cleanup(b.Release)
	for len(p) > 0 {
		n := min(piece, len(p))
		b.Write(p[:n])
		p = p[n:]
	}
	check(t, b)
	return b
}

func check(t testing.TB, b *offheap.Buffer) {
	t.Helper()
	if err := offheap.CheckBuffer(b); err != nil {
		t.Fatal(err)
	}
}

func TestBufferReader(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for _, n := range []int{0, 1, 511, 512, 513, 5000, 70_000} {
		want := text(n)
		if err := iotest.TestReader(bufferOf(t, want, 100), want); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestBufferReadFrom(t *testing.T) {
	hakmemtest.NoLeaks(t)
	boom := errors.New("boom")
	want := text(20_000)
	for what, x := range map[string]struct {
		wrap func(io.Reader) io.Reader
		err  error
		n    int // of want
	}{
		"as it is":           {func(r io.Reader) io.Reader { return r }, nil, len(want)},
		"one byte at a time": {iotest.OneByteReader, nil, len(want)},
		"half":               {iotest.HalfReader, nil, len(want)},
		"data with EOF":      {iotest.DataErrReader, nil, len(want)},
		"error at once":      {func(io.Reader) io.Reader { return iotest.ErrReader(boom) }, boom, 0},
		"error later": {func(r io.Reader) io.Reader {
			return io.MultiReader(io.LimitReader(r, 7000), iotest.ErrReader(boom))
		}, boom, 7000},
		"data with error": {func(r io.Reader) io.Reader {
			return iotest.DataErrReader(io.MultiReader(io.LimitReader(r, 7000), iotest.ErrReader(boom)))
		}, boom, 7000},
		"timeout": {iotest.TimeoutReader, iotest.ErrTimeout, 512},
	} {
		b := bufferOf(t, []byte("before "), 100)
		n, err := b.ReadFrom(x.wrap(bytes.NewReader(want)))
		if what == "timeout" { // it reads once, as much as there is room for
			x.n = int(n)
		}
		if int(n) != x.n || !errors.Is(err, x.err) {
			t.Errorf("%s: %d, %v; want %d, %v", what, n, err, x.n, x.err)
		}
		if got := b.String(); got != "before "+string(want[:x.n]) {
			t.Errorf("%s: other bytes", what)
		}
		check(t, b)
	}
}

// liar returns numbers that no reader and no writer may return.
type liar int

func (l liar) Read(p []byte) (int, error)  { return l.of(p), nil }
func (l liar) Write(p []byte) (int, error) { return l.of(p), nil }
func (l liar) of(p []byte) int {
	if l < 0 {
		return int(l)
	}
	return len(p) + int(l)
}

func TestBufferBadReadersAndWriters(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for _, l := range []liar{-1, 1} {
		b := bufferOf(t, text(1000), 100)
		mustPanicNaming(t, "ReadFrom", func() { b.ReadFrom(l) }, "Buffer.ReadFrom", "offheap_test.liar")
		mustPanicNaming(t, "WriteTo", func() { b.WriteTo(l) }, "Buffer.WriteTo", "offheap_test.liar")
		check(t, b)
		if b.String() != string(text(1000)) {
			t.Errorf("%d: other bytes", l)
		}
	}
}

// meddler does something whenever it is to read or write.
type meddler func()

func (m meddler) Read(p []byte) (int, error)  { m(); return 0, io.EOF }
func (m meddler) Write(p []byte) (int, error) { m(); return len(p), nil }

// TestBufferMeddled: a Reader or Writer that changes the Buffer which calls it is found before anything is lost.
func TestBufferMeddled(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for name, do := range map[string]func(b *offheap.Buffer){
		"release":  func(b *offheap.Buffer) { b.Release() },
		"reset":    func(b *offheap.Buffer) { b.Reset() },
		"truncate": func(b *offheap.Buffer) { b.Truncate(b.Len() / 2) },
		"write":    func(b *offheap.Buffer) { b.WriteString("x") },
		"read":     func(b *offheap.Buffer) { b.Next(1) },
	} {
		for _, n := range []int{0, 1000} {
			b := bufferOf(t, text(n), 100)
			m := meddler(func() { do(b) })
			if name != "read" && (n > 0 || name == "release" || name == "write") { // the others change nothing then
				mustPanicNaming(t, name, func() { b.ReadFrom(m) }, "Buffer.ReadFrom", "offheap_test.meddler")
			}
			check(t, b)
			b.Release()
			b.Write(text(n))
			if name != "write" && n > 0 {
				mustPanicNaming(t, name, func() { b.WriteTo(m) }, "Buffer.WriteTo", "offheap_test.meddler")
			} else if _, err := b.WriteTo(m); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			check(t, b)
			b.Release()
		}
	}
}

// short takes n bytes at a time and says nothing.
type short struct {
	io.Writer
	n int
}

func (s short) Write(p []byte) (int, error) { return s.Writer.Write(p[:min(s.n, len(p))]) }

func TestBufferWriteTo(t *testing.T) {
	hakmemtest.NoLeaks(t)
	want := text(20_000)
	var got bytes.Buffer
	b := bufferOf(t, want, 100)
	if n, err := b.WriteTo(&got); n != 20_000 || err != nil || !bytes.Equal(got.Bytes(), want) || b.Len() != 0 {
		t.Errorf("%d, %v, %d left", n, err, b.Len())
	}
	if n, err := b.WriteTo(iotest.TruncateWriter(&got, 0)); n != 0 || err != nil {
		t.Errorf("nothing left: %d, %v", n, err)
	}
	if b.Seek(0, io.SeekStart); b.Len() != 20_000 { // what was read is still held
		t.Errorf("%d bytes after Seek", b.Len())
	}

	b = bufferOf(t, want, 100)
	got.Reset()
	if n, err := b.WriteTo(short{&got, 300}); n != 300 || err != io.ErrShortWrite || b.Len() != 19_700 {
		t.Errorf("a writer that writes less: %d, %v, %d left", n, err, b.Len())
	}
	if n, err := b.WriteTo(&limited{&got, 5000}); n != 5000 || err != errFull || b.Len() != 14_700 {
		t.Errorf("a writer that becomes full: %d, %v, %d left", n, err, b.Len())
	}
	if n, err := b.WriteTo(&got); n != 14_700 || err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the rest: %d, %v", n, err)
	}

	b = bufferOf(t, want, 100)
	if n, err := b.WriteTo(b); n != 20_000 || err != nil || b.String() != string(want) {
		t.Errorf("to itself: %d, %v, %d left", n, err, b.Len())
	}
	check(t, b)
}

// TestBufferRunes: runes that lie in two, three and four chunks are read and unread as a whole.
func TestBufferRunes(t *testing.T) {
	hakmemtest.NoLeaks(t)
	const r = '𝄞' // four bytes
	for split := range 4 {
		b := bufferOf(t, []byte(strings.Repeat("x", 512-split)+string(r)+"y"), 512)
		if len(offheap.Chunks(b)) != 2 {
			t.Fatal("there is no boundary")
		}
		b.Next(512 - split)
		for range 2 {
			if got, n, err := b.ReadRune(); got != r || n != 4 || err != nil {
				t.Errorf("split %d: %q, %d, %v", split, got, n, err)
			}
			if err := b.UnreadRune(); err != nil {
				t.Error(err)
			}
		}
		check(t, b)
		if b.String() != string(r)+"y" {
			t.Errorf("split %d: left %q", split, b)
		}
	}
	var b offheap.Buffer
	defer b.Release()
	for _, r := range []rune{0, 'a', 'é', '€', r, utf8.MaxRune, utf8.MaxRune + 1, -1, 0xD800} {
		n, err := b.WriteRune(r)
		want := string(r)
		if got := b.String(); got != want || n != len(want) || err != nil {
			t.Errorf("WriteRune(%#x): %q, %d, %v; want %q", r, got, n, err, want)
		}
		b.Reset()
	}
}

// TestBufferChunks: the chunks double up to a bound, a large write gets one, and little is unused.
func TestBufferChunks(t *testing.T) {
	hakmemtest.NoLeaks(t)
	b := bufferOf(t, text(8<<20), 500)
	chunks := offheap.Chunks(b)
	for i, size := range chunks {
		if size < 512 || size > 1<<20 || i > 0 && size < chunks[i-1] {
			t.Errorf("chunks of %v bytes", chunks)
			break
		}
	}
	// 12 up to a MiB in all, and then one for each MiB.
	if len(chunks) > 12+7+1 || b.Cap()-b.Len() > 1<<20 {
		t.Errorf("%d chunks of %d bytes for %d", len(chunks), b.Cap(), b.Len())
	}
	b.Release()
	b.Write(text(1000))
	b.Write(text(10 << 20))
	if chunks := offheap.Chunks(b); len(chunks) != 2 || chunks[1] > 11<<20 {
		t.Errorf("for a large write: chunks of %v bytes", chunks)
	}
}

// TestBufferQueue: a Buffer that is written and read in turn stays as small as what is in it.
func TestBufferQueue(t *testing.T) {
	hakmemtest.NoLeaks(t)
	var b offheap.Buffer
	defer b.Release()
	for _, left := range []int{0, 1, 100, 3000, 100_000} {
		b.Reset()
		b.Write(text(left))
		most, piece := 0, text(700)
		for range 10_000 {
			b.Write(piece)
			b.Next(len(piece))
			most = max(most, b.Cap())
		}
		if most > 4096+4*left {
			t.Errorf("%d bytes in the queue: %d bytes of chunks", left, most)
		}
	}
	check(t, &b)
}

func TestBufferGrow(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for _, n := range []int{0, 1, 513, 100_000, 3 << 20} {
		b := bufferOf(t, text(700), 100)
		b.Grow(n)
		blocks := liveBlocks()
		for k := 0; k < n; k += 500 {
			b.Write(text(min(500, n-k)))
		}
		if got := liveBlocks(); got != blocks {
			t.Errorf("Grow(%d), and writing took %d blocks more", n, got-blocks)
		}
		check(t, b)
	}
}

// TestBufferMemory: Reset keeps a chunk of at most 1 MiB, Release nothing.
func TestBufferMemory(t *testing.T) {
	hakmemtest.NoLeaks(t)
	blocks := liveBlocks()
	for _, x := range []struct {
		size, piece, kept int
	}{{0, 1, 0}, {100, 100, 1}, {5 << 20, 1000, 1}, {5 << 20, 5 << 20, 0}} {
		b := bufferOf(t, text(x.size), x.piece)
		b.Reset()
		check(t, b)
		if n := liveBlocks() - blocks; n != x.kept || b.Cap() > 1<<20 || b.Len() != 0 {
			t.Errorf("%d bytes in pieces of %d: Reset leaves %d blocks, %d bytes, want %d blocks", x.size, x.piece, n, b.Cap(), x.kept)
		}
		b.WriteString("again")
		if b.String() != "again" {
			t.Errorf("after Reset: %q", b)
		}
		b.Release()
		b.Release()
		if n := liveBlocks() - blocks; n != 0 || b.Cap() != 0 || b.Len() != 0 {
			t.Errorf("Release leaves %d blocks", n)
		}
		b.WriteString("and again")
		if c := *b; c.String() != "and again" { // a copy is the same Buffer
			t.Errorf("after Release: %q", &c)
		}
		b.Release()
	}
	var b offheap.Buffer
	b.Reset()
	b.Release()
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF || b.String() != "" || b.Bytes() != nil || b.Segments(nil) != nil {
		t.Error("the zero Buffer is not empty")
	}
	if s := (*offheap.Buffer)(nil).String(); s != "<nil>" {
		t.Errorf("nil: %q", s)
	}
}

// TestBufferInPlace: what is in one chunk is returned without a copy, what is in several is gathered
// once, and the slices do not reach into what is written next.
func TestBufferInPlace(t *testing.T) {
	hakmemtest.NoLeaks(t)
	b := bufferOf(t, text(100), 100)
	p := b.Bytes()
	if q := b.Bytes(); &p[0] != &q[0] || cap(q) != 100 || len(offheap.Chunks(b)) != 1 {
		t.Error("Bytes of one chunk is a copy, or has room behind it")
	}
	if s := b.Segments(nil); len(s) != 1 || &s[0][0] != &p[0] || cap(s[0]) != 100 {
		t.Error("Segments are copies, or have room behind them")
	}
	b = bufferOf(t, text(100_000), 100)
	p = b.Bytes()
	if q := b.Bytes(); &p[0] != &q[0] || !bytes.Equal(q, text(100_000)) || len(offheap.Chunks(b)) != 1 {
		t.Errorf("Bytes gathers twice, or other bytes: chunks of %v", offheap.Chunks(b))
	}
	b.Write(text(20_000)) // there is room for a quarter
	if r := b.Bytes(); &r[0] != &p[0] || len(r) != 120_000 {
		t.Errorf("Bytes gathers again: chunks of %v", offheap.Chunks(b))
	}
	// A piece at a chunk's end is copied by itself: the chunks around it stay.
	b = bufferOf(t, text(100_000), 100)
	before := b.Cap()
	b.Next(500)
	if p := b.Next(100); !bytes.Equal(p, text(600)[500:]) || b.Cap() > before+128 {
		t.Errorf("%v; %d bytes of chunks, before %d", p, b.Cap(), before)
	}
	check(t, b)
}

// TestBufferSegments: the slices convert to net.Buffers and are all of the unread bytes.
func TestBufferSegments(t *testing.T) {
	hakmemtest.NoLeaks(t)
	b := bufferOf(t, text(100_000), 100)
	b.Next(700)
	segments := net.Buffers(b.Segments([][]byte{[]byte("head")}))
	var got bytes.Buffer
	if n, err := segments.WriteTo(&got); n != 4+99_300 || err != nil || got.String() != "head"+string(text(100_000)[700:]) {
		t.Errorf("%d, %v", n, err)
	}
	if b.Len() != 99_300 {
		t.Errorf("%d bytes left", b.Len())
	}
}

// TestBufferTruncate: it works at, before and behind the end of chunks, also of one from whose beginning
// Next has taken bytes.
func TestBufferTruncate(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for n := range 1100 {
		b := bufferOf(t, text(1100), 100)
		b.Next(500)
		b.Next(100) // from two chunks
		b.Seek(0, io.SeekStart)
		b.Truncate(n)
		check(t, b)
		b.WriteString("new")
		check(t, b)
		if b.String() != string(text(n))+"new" {
			t.Fatalf("Truncate(%d): other bytes", n)
		}
		b.Release()
	}
}

func TestBufferSeek(t *testing.T) {
	hakmemtest.NoLeaks(t)
	b := bufferOf(t, text(2000), 100)
	b.Next(300)
	b.Write(nil) // the 300 are not held any more
	for _, x := range []struct {
		offset int64
		whence int
		want   int64 // -1: an error
	}{
		{0, io.SeekStart, 0}, {1700, io.SeekStart, 1700}, {1701, io.SeekStart, -1}, {-1, io.SeekStart, -1},
		{0, io.SeekEnd, 1700}, {-1700, io.SeekEnd, 0}, {-1701, io.SeekEnd, -1}, {1, io.SeekEnd, -1},
		{1000, io.SeekStart, 1000}, {0, io.SeekCurrent, 1000}, {-1000, io.SeekCurrent, 0}, {-1, io.SeekCurrent, -1},
		{600, io.SeekCurrent, 600}, {1100, io.SeekCurrent, 1700}, {1 << 62, io.SeekCurrent, -1},
		{1<<63 - 1, io.SeekCurrent, -1}, {-1 << 63, io.SeekEnd, -1}, {0, 3, -1}, {0, -1, -1},
	} {
		was, _ := b.Seek(0, io.SeekCurrent)
		got, err := b.Seek(x.offset, x.whence)
		if now, _ := b.Seek(0, io.SeekCurrent); x.want < 0 {
			if err == nil || now != was {
				t.Errorf("Seek(%d, %d): %d, %v; from %d to %d", x.offset, x.whence, got, err, was, now)
			} else {
				mustName(t, "Seek", err, "Buffer.Seek")
			}
			continue
		}
		if got != x.want || err != nil || b.String() != string(text(2000)[300+got:]) {
			t.Errorf("Seek(%d, %d): %d, %v, want %d", x.offset, x.whence, got, err, x.want)
		}
	}
}

// TestBufferReadAt: goroutines read at the same time, wherever the position is.
func TestBufferReadAt(t *testing.T) {
	hakmemtest.NoLeaks(t)
	const size = 50_000
	b := bufferOf(t, text(size), 100)
	b.Next(size)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			p := make([]byte, 100)
			for off := w; off < size+200; off += 777 {
				n, err := b.ReadAt(p, int64(off))
				want := text(size)[min(off, size):min(off+100, size)]
				if n != len(want) || !bytes.Equal(p[:n], want) || (err == io.EOF) != (n < 100) {
					t.Errorf("ReadAt(%d): %d, %v", off, n, err)
				}
			}
		})
	}
	all.Wait()
	if _, err := b.ReadAt(nil, -1); err == nil {
		t.Error("a negative offset was taken")
	} else {
		mustName(t, "ReadAt", err, "-1", "negative")
	}
}

func TestBufferPanics(t *testing.T) {
	hakmemtest.NoLeaks(t)
	b := bufferOf(t, text(1000), 100)
	b.Next(100)
	for what, do := range map[string]func(){
		"Grow(-1)":       func() { b.Grow(-1) },
		"Next(-1)":       func() { b.Next(-1) },
		"Peek(-1)":       func() { b.Peek(-1) },
		"Truncate(-1)":   func() { b.Truncate(-1) },
		"Truncate(901)":  func() { b.Truncate(901) },
		"Truncate(1000)": func() { b.Truncate(1000) },
	} {
		mustPanicNaming(t, what, do, "offheap: Buffer."+what)
	}
	if b.Len() != 900 {
		t.Errorf("%d bytes left", b.Len())
	}
}

// TestBufferWithoutGo: writing and reading a Buffer that is in use needs no Go memory.
func TestBufferWithoutGo(t *testing.T) {
	var b offheap.Buffer
	defer b.Release()
	p := text(1000)
	if n := testing.AllocsPerRun(100, func() {
		for range 10 {
			b.Write(p)
			b.WriteByte(1)
			b.WriteRune('€')
		}
		b.Next(5000)
		b.ReadByte()
		b.Read(p)
		b.Reset()
	}); n > 1 { // the list of chunks
		t.Errorf("%v Go allocations", n)
	}
}

// TestBufferMisused: a slice of a Buffer that the program frees is found when the Buffer frees it.
func TestBufferMisused(t *testing.T) {
	hakmemtest.NoLeaks(t)
	var b offheap.Buffer
	b.WriteString("x")
	hakmem.FreeBytes(b.Bytes())
	mustPanicNaming(t, "Release", b.Release, "double free")
	b.Release() // it is empty
	b.WriteString("y")
	if b.String() != "y" {
		t.Errorf("after that: %q", &b)
	}
	b.Release()
}
