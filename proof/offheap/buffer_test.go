package offheap_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/offheap"
)

// bufferModel is a Buffer and what it must be like. A bytes.Buffer says what a call returns. It drops
// what was read, so the bytes that are held and the position are kept apart from it.
type bufferModel struct {
	b    *offheap.Buffer
	like bytes.Buffer
	held []byte
	pos  int
	// readNone: the last call was a ReadBytes or ReadString that read no byte. bytes.Buffer goes back by a
	// byte all the same.
	readNone bool
}

// length draws how many bytes a call is about: mostly few, or about as many as a chunk has.
func length(t *rapid.T) int {
	return rapid.OneOf(rapid.IntRange(0, 64), rapid.IntRange(500, 530), rapid.IntRange(0, 10_000),
		rapid.SampledFrom([]int{4096, 32 << 10, 32<<10 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1})).Draw(t, "length")
}

// content draws that many bytes; what they are follows from one number, which shrinks fast.
func content(t *rapid.T) []byte {
	p := make([]byte, length(t))
	x := rapid.Uint64().Draw(t, "bytes")
	for i := range p {
		x = x*6364136223846793005 + 1442695040888963407 // Knuth's MMIX
		p[i] = byte(x >> 56)
	}
	return p
}

func (m *bufferModel) wrote(p []byte) {
	m.held, m.pos = append(bytes.Clone(m.held[m.pos:]), p...), 0
}

func (m *bufferModel) read() { m.pos = len(m.held) - m.like.Len() }

// lost is for calls after which nothing is held.
func (m *bufferModel) lost() { m.held, m.pos = nil, 0 }

func sameError(t *rapid.T, got, want error) {
	t.Helper()
	if (got == nil) != (want == nil) || want == io.EOF && got != io.EOF {
		t.Fatalf("error %v, want %v", got, want)
	}
}

func same(t *rapid.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes %.50q, want %d bytes %.50q", what, len(got), got, len(want), want)
	}
}

var errEnough = errors.New("enough")

// taker takes left bytes and then returns an error.
type taker struct {
	bytes.Buffer
	left int
}

func (w *taker) Write(p []byte) (int, error) {
	if len(p) <= w.left {
		w.left -= len(p)
		return w.Buffer.Write(p)
	}
	n, _ := w.Buffer.Write(p[:w.left])
	w.left = 0
	return n, errEnough
}

func (m *bufferModel) actions() map[string]func(*rapid.T) {
	readLine := func(t *rapid.T, got, want func(byte) ([]byte, error)) {
		delim := rapid.Byte().Draw(t, "delim")
		m.readNone = m.like.Len() == 0
		p, err := got(delim)
		q, e := want(delim)
		sameError(t, err, e)
		same(t, "line", p, q)
		m.read()
	}
	all := map[string]func(*rapid.T){
		"Write": func(t *rapid.T) {
			p := content(t)
			if n, err := m.b.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			m.like.Write(p)
			m.wrote(p)
		},
		"WriteString": func(t *rapid.T) {
			s := rapid.String().Draw(t, "s")
			if n, err := m.b.WriteString(s); n != len(s) || err != nil {
				t.Fatal(n, err)
			}
			m.like.WriteString(s)
			m.wrote([]byte(s))
		},
		"WriteByte": func(t *rapid.T) {
			c := rapid.Byte().Draw(t, "c")
			sameError(t, m.b.WriteByte(c), nil)
			m.like.WriteByte(c)
			m.wrote([]byte{c})
		},
		"WriteRune": func(t *rapid.T) {
			r := rapid.Int32().Draw(t, "r")
			n, err := m.b.WriteRune(r)
			want, _ := m.like.WriteRune(r)
			if n != want || err != nil {
				t.Fatal(n, err, want)
			}
			m.wrote([]byte(string(r)))
		},
		"ReadFrom": func(t *rapid.T) {
			p := content(t)
			if n, err := m.b.ReadFrom(bytes.NewReader(p)); n != int64(len(p)) || err != nil {
				t.Fatal(n, err)
			}
			m.like.Write(p)
			m.wrote(p)
		},
		"Grow": func(t *rapid.T) {
			m.b.Grow(length(t))
			m.wrote(nil)
			m.like = *bytes.NewBuffer(bytes.Clone(m.held)) // so that nothing can be unread
		},
		"Read": func(t *rapid.T) {
			n := length(t)
			p, q := make([]byte, n), make([]byte, n)
			got, err := m.b.Read(p)
			want, e := m.like.Read(q)
			sameError(t, err, e)
			same(t, "Read", p[:got], q[:want])
			m.read()
		},
		"ReadByte": func(t *rapid.T) {
			c, err := m.b.ReadByte()
			d, e := m.like.ReadByte()
			sameError(t, err, e)
			same(t, "ReadByte", []byte{c}, []byte{d})
			m.read()
		},
		"ReadRune": func(t *rapid.T) {
			r, n, err := m.b.ReadRune()
			s, k, e := m.like.ReadRune()
			sameError(t, err, e)
			if r != s || n != k {
				t.Fatal(r, n, s, k)
			}
			m.read()
		},
		"UnreadByte": func(t *rapid.T) {
			if m.readNone {
				t.Skip("bytes.Buffer goes back after it read nothing")
			}
			sameError(t, m.b.UnreadByte(), m.like.UnreadByte())
			m.read()
		},
		"UnreadRune": func(t *rapid.T) {
			sameError(t, m.b.UnreadRune(), m.like.UnreadRune())
			m.read()
		},
		"ReadBytes": func(t *rapid.T) { readLine(t, m.b.ReadBytes, m.like.ReadBytes) },
		"ReadString": func(t *rapid.T) {
			line := func(read func(byte) (string, error)) func(byte) ([]byte, error) {
				return func(delim byte) ([]byte, error) { s, err := read(delim); return []byte(s), err }
			}
			readLine(t, line(m.b.ReadString), line(m.like.ReadString))
		},
		"Next": func(t *rapid.T) {
			n := length(t)
			same(t, "Next", m.b.Next(n), m.like.Next(n))
			m.read()
		},
		"Peek": func(t *rapid.T) {
			n := length(t)
			p, err := m.b.Peek(n)
			q, e := m.like.Peek(n)
			sameError(t, err, e)
			same(t, "Peek", p, q)
		},
		"Bytes":    func(t *rapid.T) { same(t, "Bytes", m.b.Bytes(), m.like.Bytes()) },
		"Segments": func(t *rapid.T) { same(t, "Segments", bytes.Join(m.b.Segments(nil), nil), m.like.Bytes()) },
		"WriteTo": func(t *rapid.T) {
			left := length(t)
			v, w := taker{left: left}, taker{left: left}
			n, err := m.b.WriteTo(&v)
			k, e := m.like.WriteTo(&w)
			sameError(t, err, e)
			same(t, "WriteTo", v.Bytes(), w.Bytes())
			if n != k {
				t.Fatal(n, k)
			}
			m.read()
		},
		"Truncate": func(t *rapid.T) {
			n := rapid.IntRange(0, m.like.Len()).Draw(t, "n")
			m.b.Truncate(n)
			m.like.Truncate(n)
			m.held = m.held[:m.pos+n]
			if n == 0 {
				m.lost()
			}
		},
		"Seek": func(t *rapid.T) {
			whence := rapid.IntRange(io.SeekStart, io.SeekEnd).Draw(t, "whence")
			to := rapid.IntRange(-1, len(m.held)+1).Draw(t, "to")
			from := []int{0, m.pos, len(m.held)}[whence]
			n, err := m.b.Seek(int64(to-from), whence)
			if to < 0 || to > len(m.held) {
				if err == nil {
					t.Fatal("no error", to, len(m.held))
				}
				to = m.pos
			} else if n != int64(to) || err != nil {
				t.Fatal(n, err, to)
			}
			m.pos = to
			m.like = *bytes.NewBuffer(bytes.Clone(m.held[to:]))
		},
		"ReadAt": func(t *rapid.T) {
			off := rapid.IntRange(0, len(m.held)+1).Draw(t, "offset")
			n := length(t)
			p := make([]byte, n)
			got, err := m.b.ReadAt(p, int64(off))
			want := m.held[min(off, len(m.held)):]
			want = want[:min(n, len(want))]
			same(t, "ReadAt", p[:got], want)
			if (err == io.EOF) != (got < n) || err != nil && err != io.EOF {
				t.Fatal(got, err)
			}
		},
		"Reset":   func(t *rapid.T) { m.b.Reset(); m.like.Reset(); m.lost() },
		"Release": func(t *rapid.T) { m.b.Release(); m.like = bytes.Buffer{}; m.lost() },
	}
	for name, do := range all {
		// What leaves the last call what it was for bytes.Buffer, too.
		if name == "ReadBytes" || name == "ReadString" || name == "UnreadByte" || name == "UnreadRune" || name == "Peek" || name == "Bytes" || name == "Segments" || name == "ReadAt" {
			continue
		}
		all[name] = func(t *rapid.T) { do(t); m.readNone = false }
	}
	all[""] = m.check
	return all
}

func (m *bufferModel) check(t *rapid.T) {
	if m.b.Len() != m.like.Len() || m.b.Cap() < len(m.held) {
		t.Fatalf("Len %d, Cap %d, want %d, %d are held", m.b.Len(), m.b.Cap(), m.like.Len(), len(m.held))
	}
	if s := m.b.String(); s != m.like.String() {
		t.Fatalf("other bytes: %.50q, want %.50q", s, m.like.String())
	}
	p := make([]byte, len(m.held))
	if n, err := m.b.ReadAt(p, 0); n != len(p) || err != nil {
		t.Fatal(n, err)
	}
	same(t, "held", p, m.held)
}

func runBuffer(t *rapid.T) {
	m := &bufferModel{b: drawBuffer(t)}
	defer m.b.Release()
	t.Repeat(m.actions())
}

// drawBuffer draws the options of a Buffer.
func drawBuffer(t *rapid.T) *offheap.Buffer {
	if rapid.Bool().Draw(t, "zero") {
		return new(offheap.Buffer)
	}
	return offheap.NewBuffer(offheap.BufferOptions{
		Site:     rapid.SampledFrom([]hakmem.Site{0, hakmem.RegisterSite("proof/offheap buffer")}).Draw(t, "site"),
		Capacity: rapid.SampledFrom([]int{0, 1, 1000, 3 << 20}).Draw(t, "capacity"),
	})
}

func TestBuffer(t *testing.T) {
	hakmemtest.NoLeaks(t)
	rapid.Check(t, runBuffer)
}

// TestBufferUnwatched is TestBuffer without NoLeaks, so that calls take hakmem's fast paths.
func TestBufferUnwatched(t *testing.T) {
	before := live()
	rapid.Check(t, runBuffer)
	if n := live(); n != before {
		t.Errorf("%d live blocks, before %d", n, before)
	}
}

func live() (n int) {
	for range hakmem.LiveBlocks() {
		n++
	}
	return n
}
