package proof

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Fuzz targets: the machine of model_test.go, which takes its choices from bytes. Each target has
// the actions of some groups, so that the fuzzer need not find out which bytes matter.

// tape is the source of a fuzz target. Its choices are its bytes, and 0 after its end.
type tape struct{ rest []byte }

func (t *tape) choose(_ string, n int) int {
	v := 0
	for most := 1; most < n; most <<= 8 {
		b := 0
		if len(t.rest) > 0 {
			b, t.rest = int(t.rest[0]), t.rest[1:]
		}
		v = v<<8 | b
	}
	return v % n
}

// maxActions bounds one input, so that the fuzzer tries many.
const maxActions = 500

// play runs a tape with the actions of the groups.
func play(t *testing.T, of group, program []byte) {
	var some []*action
	for i := range actions {
		if actions[i].of&of != 0 {
			some = append(some, &actions[i])
		}
	}
	src := &tape{program}
	m := begin(t, src)
	defer m.cleanUp()
	for i := 0; i < maxActions && len(src.rest) > 0; i++ {
		m.run(some[src.choose("action", len(some))])
		if i%16 == 15 {
			m.check() // the model checks after each action; here speed finds more
		}
	}
	m.end()
}

// seed adds programs for a target: each action of the groups by itself and
// between allocations, and random ones from a few actions to many.
func seed(f *testing.F, of group) {
	n := 0
	for i := range actions {
		if actions[i].of&of != 0 {
			n++
		}
	}
	r := rand.New(rand.NewPCG(uint64(of), 1))
	random := func(length int) []byte {
		b := make([]byte, length)
		for i := range b {
			b[i] = byte(r.UintN(256))
		}
		return b
	}
	for i := range n {
		f.Add([]byte{byte(i)})
		f.Add(append(append(random(20), byte(i)), random(20)...))
	}
	for _, length := range []int{50, 200, 800, 3000, 3001, 3002} {
		if length < 1000 || !testkit.Race { // ten times as slow there
			f.Add(random(length))
		}
	}
}

func fuzz(f *testing.F, of group) {
	seed(f, of)
	f.Fuzz(func(t *testing.T, program []byte) { play(t, of, program) })
}

func FuzzGlobal(f *testing.F) { fuzz(f, global|world) }
func FuzzHeap(f *testing.F)   { fuzz(f, private|global|world) }
func FuzzArenas(f *testing.F) { fuzz(f, arenas|global|world) }
func FuzzTyped(f *testing.F)  { fuzz(f, typed|world) }
func FuzzMisuse(f *testing.F) { fuzz(f, misuse|global|arenas|world) }
func FuzzAll(f *testing.F)    { fuzz(f, global|private|arenas|typed|world|misuse) }

// FuzzPointers gives arbitrary addresses to the functions that take a block, while there are live
// and freed blocks of each kind. It uses 10 bytes for each call. The first says which function gets
// the address and whether the address is absolute. The second says from which block it is counted
// if it is not absolute. The others are the address or the distance.
func FuzzPointers(f *testing.F) {
	const takerBits, reallocBits, absolute = 7, 3 << 3, 1 << 5
	for kind := range byte(absolute << 1) {
		var program []byte // one for all addresses: the machine around them takes longer than they do
		for i, n := range []uint64{0, 1, 8, 16, 17, 4096, 65536, 1 << 20, 1 << 40, 1 << 47, 1<<63 - 1, 1 << 63, ^uint64(0), ^uint64(15), ^uint64(65535), 0xdeadbeef} {
			program = binary.LittleEndian.AppendUint64(append(program, kind, kind+byte(i)), n)
		}
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		src := &tape{}
		m := begin(t, src)
		defer m.cleanUp()
		for _, size := range []uintptr{1, 48, 1000, 3000, 30_000, 70_000, 3 << 20} {
			for range 3 {
				m.got(hakmem.Malloc(size), want{op: "Malloc", size: size, exact: true})
			}
		}
		for i := 1; i < len(m.blocks); i += 2 {
			m.drop(i, hakmem.Free)
		}
		for ; len(program) >= 10; program = program[10:] {
			// The choices of refuse: the function, and the size of a Realloc.
			src.rest = []byte{program[0] & takerBits, program[0] & reallocBits >> 3}
			p := m.blocks[int(program[1])%len(m.blocks)].p
			if program[0]&absolute != 0 {
				p = nil
			}
			p = testkit.Wild(p, uintptr(binary.LittleEndian.Uint64(program[2:])))
			a := uintptr(p)
			in := m.at(a)
			if a < 4096 || in == nil && goHeap(a) {
				continue // the Go runtime ends a program that has such a pointer
			}
			if !osmem.ReadableReserve && engine.InLiveMap(mem.Addr(a)) {
				continue // hakmem would read memory that is not committed: docs/design.md, Portability
			}
			switch {
			case in == nil:
				m.refuse("any address", p, nil, freed, interior, unalign, foreign, never, wasArena)
			case in.p != p:
				m.refuse("any address in a block", p, in, interior, unalign)
			default:
				if n := m.usable(p); n != in.usable {
					t.Fatalf("%v: UsableSize %d", in, n)
				}
			}
		}
		m.end()
	})
}

// goHeap reports whether the Go heap may be at address a. The Go heap grows from a first object
// upwards, here by less than 64 GiB. The runtime ends a program that has a pointer into a free part
// of it.
func goHeap(a uintptr) bool {
	return a>>36 == uintptr(unsafe.Pointer(new(int64)))>>36
}

// FuzzHandOver runs two goroutines, each with half of the bytes and a Heap of its own, that
// allocate, hand blocks to each other, reallocate and free.
func FuzzHandOver(f *testing.F) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, length := range []int{8, 60, 400, 3000} {
		for range 4 {
			b := make([]byte, length)
			for i := range b {
				b[i] = byte(r.UintN(256))
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		half := len(program) / 2
		boxes := [2]chan block{make(chan block, 16), make(chan block, 16)}
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i, half := range [][]byte{program[:half], program[half:]} {
			wg.Go(func() {
				e := &exchanger{tape: tape{half}, in: boxes[i], out: boxes[1-i], id: uint64(i)}
				v := testkit.PanicOf(func() { errs[i] = e.run() })
				if v != nil {
					errs[i] = fmt.Errorf("panic: %v", v)
				}
			})
		}
		wg.Wait()
		for _, box := range boxes { // blocks that came too late
			for len(box) > 0 {
				b := <-box
				errs = append(errs, mustBeIntact(b))
				hakmem.Free(b.p)
			}
		}
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
		checkQuiescent(t)
	})
}

// exchanger is one of the goroutines of FuzzHandOver.
type exchanger struct {
	tape
	in   <-chan block
	out  chan<- block
	id   uint64
	made uint64
	held []block
}

func (e *exchanger) make(p unsafe.Pointer, size uintptr) (block, error) {
	if p == nil && limited() {
		return block{}, nil
	}
	if p == nil || hakmem.UsableSize(p) < size {
		return block{}, fmt.Errorf("no block of %d bytes: %p: %v", size, p, hakmem.Err())
	}
	e.made++
	b := block{p: p, size: size, usable: hakmem.UsableSize(p), key: keyOf(p, e.id<<32|e.made)}
	write(b.p, b.usable, b.key)
	return b, nil
}

func (e *exchanger) take() (block, bool) {
	if len(e.held) == 0 {
		return block{}, false
	}
	i := e.choose("block", len(e.held))
	b := e.held[i]
	e.held[i] = e.held[len(e.held)-1]
	e.held = e.held[:len(e.held)-1]
	return b, true
}

// limited reports whether an allocation may fail.
func limited() bool {
	_, hard := hakmem.MemoryLimit()
	return hard != 0
}

func mustBeIntact(b block) error {
	if !intact(b.p, b.usable, b.usable, b.key) {
		return fmt.Errorf("%v: its contents were changed", &b)
	}
	return nil
}

func (e *exchanger) run() (err error) {
	h := hakmem.NewHeap()
	defer h.Close()
	defer func() {
		for _, b := range e.held {
			err = errors.Join(err, mustBeIntact(b))
			hakmem.Free(b.p)
		}
	}()
	// The number of Trims is bounded: each stops the world, which takes long on a busy machine, and
	// after 10 s go test takes a process for hung.
	for n := 0; n < 2*maxActions && len(e.rest) > 0; n++ {
		op := e.choose("operation", 16)
		size := uintptr(e.choose("size", 1<<[]int{6, 10, 15, 19}[e.choose("kind of size", 4)]))
		switch {
		case op < 6:
			malloc := hakmem.Malloc
			if op%2 == 1 {
				malloc = h.Malloc
			}
			b, err := e.make(malloc(size), size)
			if err != nil {
				return err
			}
			if b.p != nil {
				e.held = append(e.held, b)
			}
		case op < 9:
			if b, ok := e.take(); ok {
				select {
				case e.out <- b:
				default:
					e.held = append(e.held, b)
				}
			}
		case op < 11:
			select {
			case b := <-e.in:
				e.held = append(e.held, b)
			default:
			}
		case op < 14:
			free := hakmem.Free
			if op == 12 {
				free = h.Free
			}
			if b, ok := e.take(); ok {
				if err := mustBeIntact(b); err != nil {
					return err
				}
				free(b.p)
			}
		case op == 14:
			b, ok := e.take()
			if !ok {
				continue
			}
			p := h.Realloc(b.p, size)
			if p == nil {
				e.held = append(e.held, b)
				if !limited() {
					return fmt.Errorf("Realloc(%v, %d) = nil without a limit: %v", &b, size, hakmem.Err())
				}
				continue
			}
			if !intact(p, b.usable, min(b.usable, size), b.key) {
				return fmt.Errorf("Realloc(%v, %d) = %p lost the contents", &b, size, p)
			}
			b, err := e.make(p, size)
			if err != nil {
				return err
			}
			e.held = append(e.held, b)
		case size%8 == 0:
			hakmem.Trim()
		case size%8 == 1:
			for b := range hakmem.LiveBlocks() {
				if b.Addr == 0 {
					return fmt.Errorf("LiveBlocks yields %+v", b)
				}
			}
		}
	}
	return nil
}
