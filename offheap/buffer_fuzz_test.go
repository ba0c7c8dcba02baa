package offheap_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/hakmem/hakmem/offheap"
)

// pair is a Buffer and what it must be like: a bytes.Buffer, and the bytes that are held.
type pair struct {
	b    offheap.Buffer
	want bytes.Buffer
	held []byte
	pos  int
	// odd: bytes.Buffer lets go back by a byte after a ReadBytes that read none.
	odd bool
}

// steps are what can be done to a pair, with a number from 0 to 65535 that says how much. Each returns
// what the Buffer and the bytes.Buffer returned.
var steps = []struct {
	name string
	do   func(p *pair, n int) (got, want any)
}{
	{"Write", func(p *pair, n int) (any, any) { return p.write(func(s []byte) []any { return all(p.b.Write(s)) }, n) }},
	{"Write much", func(p *pair, n int) (any, any) {
		return p.write(func(s []byte) []any { return all(p.b.Write(s)) }, 8*n)
	}},
	{"WriteString", func(p *pair, n int) (any, any) {
		return p.write(func(s []byte) []any { return all(p.b.WriteString(string(s))) }, n%300)
	}},
	{"WriteByte", func(p *pair, n int) (any, any) {
		return p.write(func(s []byte) []any { return []any{1, p.b.WriteByte(s[0])} }, 1)
	}},
	{"WriteRune", func(p *pair, n int) (any, any) {
		r := rune(n*37 - 1)
		n, err := p.b.WriteRune(r)
		m, _ := p.want.WriteRune(r)
		p.wrote([]byte(string(r)))
		return all(n, err), all(m, error(nil))
	}},
	{"ReadFrom", func(p *pair, n int) (any, any) {
		return p.write(func(s []byte) []any {
			n, err := p.b.ReadFrom(iotest.HalfReader(bytes.NewReader(s)))
			return all(int(n), err)
		}, n%5000)
	}},
	{"Grow", func(p *pair, n int) (any, any) { p.b.Grow(n); p.wrote(nil); return nil, nil }},
	{"Read", func(p *pair, n int) (any, any) {
		got, want := make([]byte, n), make([]byte, n)
		a := all(p.b.Read(got))
		b := all(p.want.Read(want))
		p.read()
		return []any{a, string(got)}, []any{b, string(want)}
	}},
	{"ReadByte", func(p *pair, _ int) (got, want any) {
		got, want = all(p.b.ReadByte()), all(p.want.ReadByte())
		p.read()
		return
	}},
	{"ReadRune", func(p *pair, _ int) (got, want any) {
		r, n, err := p.b.ReadRune()
		s, m, e := p.want.ReadRune()
		p.read()
		return []any{r, n, err}, []any{s, m, e}
	}},
	{"UnreadByte", func(p *pair, _ int) (got, want any) {
		if p.odd {
			return nil, nil
		}
		got, want = p.b.UnreadByte() == nil, p.want.UnreadByte() == nil
		p.read()
		return
	}},
	{"UnreadRune", func(p *pair, _ int) (got, want any) {
		got, want = p.b.UnreadRune() == nil, p.want.UnreadRune() == nil
		if want == true { // else the last call was still what it was
			p.read()
		}
		return
	}},
	{"ReadBytes", func(p *pair, n int) (got, want any) {
		none := p.want.Len() == 0
		got, want = lineOf(p.b.ReadBytes(byte(n))), lineOf(p.want.ReadBytes(byte(n)))
		p.read()
		p.odd = none
		return
	}},
	{"ReadString", func(p *pair, n int) (got, want any) {
		none := p.want.Len() == 0
		got, want = all(p.b.ReadString(byte(n))), all(p.want.ReadString(byte(n)))
		p.read()
		p.odd = none
		return
	}},
	{"Next", func(p *pair, n int) (got, want any) {
		got, want = string(p.b.Next(n)), string(p.want.Next(n))
		p.read()
		return
	}},
	{"Peek", func(p *pair, n int) (got, want any) {
		s, err := p.b.Peek(n)
		w, e := p.want.Peek(n)
		return []any{string(s), err}, []any{string(w), e}
	}},
	{"Bytes", func(p *pair, _ int) (got, want any) { return string(p.b.Bytes()), p.want.String() }},
	{"String", func(p *pair, _ int) (got, want any) { return p.b.String(), p.want.String() }},
	{"Segments", func(p *pair, _ int) (got, want any) {
		return string(bytes.Join(p.b.Segments(nil), nil)), p.want.String()
	}},
	{"WriteTo", func(p *pair, n int) (got, want any) {
		var a, b bytes.Buffer
		x := all(p.b.WriteTo(&limited{&a, n}))
		y := all(p.want.WriteTo(&limited{&b, n}))
		p.read()
		return []any{x, a.String()}, []any{y, b.String()}
	}},
	{"Truncate", func(p *pair, n int) (got, want any) {
		n %= p.want.Len() + 1
		p.b.Truncate(n)
		p.want.Truncate(n)
		p.held = p.held[:p.pos+n]
		if n == 0 {
			p.held, p.pos = nil, 0
		}
		return nil, nil
	}},
	{"Seek", func(p *pair, n int) (got, want any) {
		whence, from := n%3, []int{0, p.pos, len(p.held)}[n%3]
		to := n / 3 % (len(p.held) + 1)
		got = all(p.b.Seek(int64(to-from), whence))
		p.pos = to
		p.want = *bytes.NewBuffer(bytes.Clone(p.held[to:]))
		p.odd = false
		return got, all(int64(to), error(nil))
	}},
	{"Seek too far", func(p *pair, n int) (got, want any) {
		_, before := p.b.Seek(-int64(n)-1, io.SeekStart)
		_, behind := p.b.Seek(int64(n)+1, io.SeekEnd)
		p.want = *bytes.NewBuffer(bytes.Clone(p.held[p.pos:]))
		return before != nil && behind != nil, true
	}},
	{"ReadAt", func(p *pair, n int) (got, want any) {
		off := n % (len(p.held) + 10)
		a, b := make([]byte, n/7), make([]byte, n/7)
		x := all(p.b.ReadAt(a, int64(off)))
		y := all(bytes.NewReader(p.held).ReadAt(b, int64(off)))
		if len(a) == 0 { // bytes.Reader says io.EOF, and need not
			return nil, nil
		}
		return []any{x, string(a)}, []any{y, string(b)}
	}},
	{"Reset", func(p *pair, _ int) (got, want any) {
		p.b.Reset()
		p.want.Reset()
		p.held, p.pos = nil, 0
		return nil, nil
	}},
	{"Release", func(p *pair, _ int) (got, want any) {
		p.b.Release()
		p.want = bytes.Buffer{}
		p.held, p.pos = nil, 0
		return p.b.Cap(), 0
	}},
}

// limited takes n bytes, and then returns an error.
type limited struct {
	w io.Writer
	n int
}

var errFull = errors.New("full")

func (l *limited) Write(p []byte) (n int, err error) {
	if len(p) > l.n {
		p, err = p[:l.n], errFull
	}
	l.n -= len(p)
	l.w.Write(p)
	return len(p), err
}

func lineOf(line []byte, err error) []any { return all(string(line), err) }

func all[T any](v T, err error) []any { return []any{v, err} }

// write does a step that appends n bytes.
func (p *pair) write(do func([]byte) []any, n int) (got, want any) {
	s := text(len(p.held) + n)[len(p.held):]
	p.want.Write(s)
	got = do(s)
	p.wrote(s)
	return got, []any{n, error(nil)}
}

// wrote ends a step that wrote: what was read is no longer held.
func (p *pair) wrote(s []byte) {
	p.held, p.pos = append(bytes.Clone(p.held[p.pos:]), s...), 0
	if s == nil { // for the bytes.Buffer it was no write
		p.want = *bytes.NewBuffer(bytes.Clone(p.held))
	}
	p.odd = false
}

// read ends a step that read, or went back.
func (p *pair) read() {
	p.pos = len(p.held) - p.want.Len()
	p.odd = false
}

// step does a step and returns what differs.
func (p *pair) step(i, n int) error {
	s := &steps[i%len(steps)]
	got, want := s.do(p, n)
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s %d: %.200v, want %.200v", s.name, n, got, want)
	}
	if p.b.Len() != p.want.Len() || p.b.Cap() < p.b.Len() {
		return fmt.Errorf("%s %d: Len %d, want %d, Cap %d", s.name, n, p.b.Len(), p.want.Len(), p.b.Cap())
	}
	held := make([]byte, len(p.held))
	if n, err := p.b.ReadAt(held, 0); n != len(held) || err != nil || !bytes.Equal(held, p.held) {
		return fmt.Errorf("%s %d: %d of %d bytes that are held, %v: %.200v, want %.200v", s.name, n, n, len(held), err, held, p.held)
	}
	if err := offheap.CheckBuffer(&p.b); err != nil {
		return fmt.Errorf("%s %d: %w", s.name, n, err)
	}
	return nil
}

// mostSteps and mostHeld bound an input, so that the fuzzer tries many.
const (
	mostSteps = 200
	mostHeld  = 1 << 20
)

// FuzzBuffer does steps to a Buffer and to a bytes.Buffer: a byte says which, two say how much.
func FuzzBuffer(f *testing.F) {
	r := newRand(f, 1)
	for i := range steps {
		f.Add([]byte{0, 2, 1, 7, 1, 1, byte(i), 1, 100, 10, 0, 0, byte(i), 2, 3})
	}
	random := 50
	if testing.Short() {
		random = 10
	}
	for range random {
		p := make([]byte, 3*mostSteps)
		for i := range p {
			p[i] = byte(r.UintN(256))
			if i%3 == 1 && r.UintN(4) > 0 {
				p[i] %= 4 // mostly below 1024
			}
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		var p pair
		defer p.b.Release()
		for i := 0; i < mostSteps && len(program) >= 3 && len(p.held) < mostHeld; i++ {
			if err := p.step(int(program[0]), int(program[1])<<8|int(program[2])); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			program = program[3:]
		}
	})
}
