// The tests are in the package itself, and use what it exports, except counters. If they imported it by its
// path, it would have two paths in a program that puts it in the place of modernc.org/memory, and go mod tidy
// would refuse that.

package memory

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
)

// The interface of modernc.org/memory v1.13.0.
var (
	_ interface {
		Calloc(int) ([]byte, error)
		Close() error
		Free([]byte) error
		Malloc(int) ([]byte, error)
		Realloc([]byte, int) ([]byte, error)
		Trim() error
		UintptrCalloc(int) (uintptr, error)
		UintptrFree(uintptr) error
		UintptrMalloc(int) (uintptr, error)
		UintptrRealloc(uintptr, int) (uintptr, error)
		UnsafeCalloc(int) (unsafe.Pointer, error)
		UnsafeFree(unsafe.Pointer) error
		UnsafeMalloc(int) (unsafe.Pointer, error)
		UnsafeRealloc(unsafe.Pointer, int) (unsafe.Pointer, error)
	} = (*Allocator)(nil)
	_ func(uintptr) int        = UintptrUsableSize
	_ func(unsafe.Pointer) int = UnsafeUsableSize
	_ func(*byte) int          = UsableSize
	_ func(int) int            = UsableSizeFor
	_                          = [3]int{Allocator{}.Allocs, Allocator{}.Bytes, Allocator{}.Mmaps}
)

// family is one of the three sets of methods, by addresses as the tests use them.
type family struct {
	name            string
	malloc, calloc  func(*Allocator, int) ([]byte, error)
	realloc         func(*Allocator, []byte, int) ([]byte, error)
	free            func(*Allocator, []byte) error
	usable          func([]byte) int
	capIsUsableSize bool
}

// at makes the results of the methods with pointers and addresses into slices.
func at(p unsafe.Pointer, n int, err error) ([]byte, error) {
	if p == nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), n), err
}

var families = []family{
	{
		"slices",
		(*Allocator).Malloc, (*Allocator).Calloc, (*Allocator).Realloc, (*Allocator).Free,
		func(b []byte) int { return UsableSize(unsafe.SliceData(b)) },
		true,
	},
	{
		"unsafe",
		func(a *Allocator, n int) ([]byte, error) { p, err := a.UnsafeMalloc(n); return at(p, n, err) },
		func(a *Allocator, n int) ([]byte, error) { p, err := a.UnsafeCalloc(n); return at(p, n, err) },
		func(a *Allocator, b []byte, n int) ([]byte, error) {
			p, err := a.UnsafeRealloc(start(b), n)
			return at(p, n, err)
		},
		func(a *Allocator, b []byte) error { return a.UnsafeFree(start(b)) },
		func(b []byte) int { return UnsafeUsableSize(start(b)) },
		false,
	},
	{
		"uintptr",
		func(a *Allocator, n int) ([]byte, error) {
			p, err := a.UintptrMalloc(n)
			return at(pointer(p), n, err)
		},
		func(a *Allocator, n int) ([]byte, error) {
			p, err := a.UintptrCalloc(n)
			return at(pointer(p), n, err)
		},
		func(a *Allocator, b []byte, n int) ([]byte, error) {
			p, err := a.UintptrRealloc(uintptr(start(b)), n)
			return at(pointer(p), n, err)
		},
		func(a *Allocator, b []byte) error { return a.UintptrFree(uintptr(start(b))) },
		func(b []byte) int { return UintptrUsableSize(uintptr(start(b))) },
		false,
	},
}

// each runs a test for each family, with an Allocator that must be empty at the end.
func each(t *testing.T, test func(t *testing.T, f family, a *Allocator)) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			hakmemtest.NoLeaks(t)
			var a Allocator
			test(t, f, &a)
			if a.Allocs != 0 || a.Bytes != 0 || a.Mmaps != 0 {
				t.Errorf("all is freed, and the counters are %d blocks, %d bytes, %d mmaps", a.Allocs, a.Bytes, a.Mmaps)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// fill writes a pattern that depends on the seed.
func fill(b []byte, seed uint64) {
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
}

// holds reports whether the first n bytes of b are what fill has written.
func holds(b []byte, n int, seed uint64) bool {
	want := make([]byte, n)
	fill(want, seed)
	return bytes.Equal(b[:n], want)
}

// TestFill fills many blocks, small and large ones, and frees them in another order.
func TestFill(t *testing.T) {
	quota := 12 << 20
	if testing.Short() {
		quota = 4 << 20
	}
	for _, most := range []int{300, 8 << 10, 128 << 10} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			each(t, func(t *testing.T, f family, a *Allocator) {
				r := rand.New(rand.NewPCG(1, uint64(most)))
				var blocks [][]byte
				total := 0
				for total < quota {
					b, err := f.malloc(a, 1+r.IntN(most))
					if err != nil {
						t.Fatal(err)
					}
					fill(b, uint64(len(blocks)))
					blocks = append(blocks, b)
					total += len(b)
				}
				if counters && (a.Allocs != len(blocks) || a.Bytes < total) {
					t.Errorf("the counters are %d blocks, %d bytes, want %d and at least %d", a.Allocs, a.Bytes, len(blocks), total)
				}
				for i, b := range blocks {
					if !holds(b, len(b), uint64(i)) {
						t.Fatalf("block %d of %d bytes at %p has changed", i, len(b), b)
					}
					if n := f.usable(b); n < len(b) || f.capIsUsableSize && n != cap(b) {
						t.Fatalf("block %d of %d bytes has %d usable, cap %d", i, len(b), n, cap(b))
					}
				}
				r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
				for _, b := range blocks {
					if err := f.free(a, b[:0]); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// TestMix allocates, changes sizes and frees at random, and looks at what the blocks hold.
func TestMix(t *testing.T) {
	steps := 15_000
	if testing.Short() {
		steps = 5_000
	}
	each(t, func(t *testing.T, f family, a *Allocator) {
		type block struct {
			b    []byte
			seed uint64
		}
		var blocks []block
		r := rand.New(rand.NewPCG(2, 2))
		size := func() int { return 1 + r.IntN(1<<r.IntN(18)) }
		for step := range steps {
			switch i := r.IntN(max(len(blocks), 1)); {
			case len(blocks) < 100 || r.IntN(3) == 0 && len(blocks) < 500:
				allocate := f.malloc
				zero := r.IntN(4) == 0
				if zero {
					allocate = f.calloc
				}
				b, err := allocate(a, size())
				if err != nil {
					t.Fatal(err)
				}
				if zero && !bytes.Equal(b, make([]byte, len(b))) {
					t.Fatalf("Calloc gives %d bytes at %p that are not zero", len(b), b)
				}
				if uintptr(start(b))%16 != 0 {
					t.Fatalf("%p is not aligned", b)
				}
				fill(b, uint64(step))
				blocks = append(blocks, block{b, uint64(step)})
			case r.IntN(2) == 0:
				was := blocks[i]
				b, err := f.realloc(a, was.b, size())
				if err != nil {
					t.Fatal(err)
				}
				if !holds(b, min(len(b), len(was.b)), was.seed) {
					t.Fatalf("Realloc from %d to %d bytes has changed what they hold", len(was.b), len(b))
				}
				fill(b, uint64(step))
				blocks[i] = block{b, uint64(step)}
			default:
				if !holds(blocks[i].b, len(blocks[i].b), blocks[i].seed) {
					t.Fatalf("block of %d bytes at %p has changed", len(blocks[i].b), blocks[i].b)
				}
				if err := f.free(a, blocks[i].b); err != nil {
					t.Fatal(err)
				}
				blocks[i] = blocks[len(blocks)-1]
				blocks = blocks[:len(blocks)-1]
			}
			if step%1000 == 0 {
				if err := a.Trim(); err != nil { // the blocks keep what they hold
					t.Fatal(err)
				}
			}
		}
		for _, b := range blocks {
			if got, err := f.realloc(a, b.b, 0); got != nil || err != nil { // the other way to free
				t.Fatal(got, err)
			}
		}
	})
}

// TestSizes goes through the sizes at the edges.
func TestSizes(t *testing.T) {
	each(t, func(t *testing.T, f family, a *Allocator) {
		for name, do := range map[string]func() ([]byte, error){
			"Malloc(0)":       func() ([]byte, error) { return f.malloc(a, 0) },
			"Calloc(0)":       func() ([]byte, error) { return f.calloc(a, 0) },
			"Realloc(nil, 0)": func() ([]byte, error) { return f.realloc(a, nil, 0) },
			"Free(nil)":       func() ([]byte, error) { return nil, f.free(a, nil) },
		} {
			if b, err := do(); b != nil || err != nil {
				t.Errorf("%s gives %v, %v, want nothing", name, b, err)
			}
		}
		for name, do := range map[string]func() ([]byte, error){
			"Malloc":  func() ([]byte, error) { return f.malloc(a, math.MaxInt) },
			"Calloc":  func() ([]byte, error) { return f.calloc(a, math.MaxInt) },
			"Realloc": func() ([]byte, error) { return f.realloc(a, nil, math.MaxInt) },
		} {
			if b, err := do(); b != nil || err == nil || !strings.Contains(err.Error(), fmt.Sprint(math.MaxInt)) {
				t.Errorf("%s of %d bytes gives %v, %v", name, math.MaxInt, b, err)
			}
		}
		for name, do := range map[string]func(){
			"Malloc":        func() { _, _ = f.malloc(a, -7) },
			"Calloc":        func() { _, _ = f.calloc(a, -7) },
			"Realloc":       func() { _, _ = f.realloc(a, nil, -7) },
			"UsableSizeFor": func() { UsableSizeFor(-7) },
		} {
			if got := panicOf(do); got == nil || !strings.Contains(fmt.Sprint(got), "-7") {
				t.Errorf("%s of size -7: %v", name, got)
			}
		}
		b, err := f.realloc(a, nil, 100)
		if err != nil || len(b) != 100 {
			t.Fatal(len(b), err)
		}
		fill(b, 1)
		if c, err := f.realloc(a, b, math.MaxInt); c != nil || err == nil || !holds(b, 100, 1) {
			t.Errorf("a Realloc without memory gives %v, %v, and the block may have changed", c, err)
		}
		if err := f.free(a, b); err != nil {
			t.Error(err)
		}
	})
}

func panicOf(do func()) (value any) {
	defer func() { value = recover() }()
	do()
	return nil
}

// TestUsableSizeFor: it says what Malloc gives, for sizes of every kind.
func TestUsableSizeFor(t *testing.T) {
	exact := os.Getenv("HAKMEM_HARDEN")+os.Getenv("HAKMEM_GUARD") != "" // blocks have what was asked for
	var a Allocator
	defer a.Close()
	if n := UsableSizeFor(0); n != 0 {
		t.Errorf("UsableSizeFor(0) = %d", n)
	}
	if UsableSize(nil) != 0 || UintptrUsableSize(0) != 0 || UnsafeUsableSize(nil) != 0 {
		t.Error("nil has a usable size")
	}
	for size := 1; size < 3<<20; size += 1 + size/7 {
		b, err := a.Malloc(size)
		if err != nil {
			t.Fatal(err)
		}
		n := UsableSizeFor(size)
		if n != cap(b) && !(exact && cap(b) == size) || n < size {
			t.Errorf("UsableSizeFor(%d) = %d, the block has %d", size, n, cap(b))
		}
		if again := UsableSizeFor(n); again != n {
			t.Errorf("UsableSizeFor(%d) = %d, of which it is %d", size, n, again)
		}
	}
}

// TestClose: Close frees what the Allocator has, and nothing of others.
func TestClose(t *testing.T) {
	hakmemtest.NoLeaks(t)
	var a, other Allocator
	mine := hakmem.Alloc(100)
	defer hakmem.FreeBytes(mine)
	fill(mine, 1)
	theirs, err := other.Malloc(100)
	if err != nil {
		t.Fatal(err)
	}
	fill(theirs, 2)
	for round := range 3 { // it may be used again
		for size := 1; size < 200_000; size += 1 + size/3 {
			b, err := a.Malloc(size)
			if err == nil {
				_, err = a.Realloc(b, size*(round+1))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(); err != nil || a.Allocs != 0 || a.Bytes != 0 {
			t.Fatalf("%v, %+v", err, a)
		}
	}
	if !holds(mine, 100, 1) || !holds(theirs, 100, 2) {
		t.Error("Close has changed blocks of others")
	}
	if err := other.Free(theirs); err != nil {
		t.Error(err)
	}
}

// TestMemoryComesBack: after Close the system has the memory.
func TestMemoryComesBack(t *testing.T) {
	resident := func() int64 {
		var s hakmem.Stats
		hakmem.ReadStats(&s)
		return int64(s.Resident)
	}
	hakmem.Trim()
	before := resident()
	const size = 32 << 20
	var a Allocator
	for left := size; left > 0; left -= 3000 {
		b, err := a.Malloc(3000)
		if err != nil {
			t.Fatal(err)
		}
		fill(b, 0)
	}
	if grown := resident() - before; grown < size*9/10 {
		t.Errorf("%d bytes made hakmem grow by %d", size, grown)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if left := resident() - before; left > size/10 {
		t.Errorf("after Close %d bytes are still resident", left)
	}
}

// TestMisuse: a pointer that is no block of the Allocator is refused, and nothing is changed.
func TestMisuse(t *testing.T) {
	hakmemtest.NoLeaks(t)
	var a, other Allocator
	defer a.Close()
	defer other.Close()
	block, _ := a.Malloc(100)
	theirs, _ := other.Malloc(100)
	freed, _ := a.Malloc(5000)
	if err := a.Free(freed); err != nil {
		t.Fatal(err)
	}
	mine := hakmem.Alloc(100)
	defer hakmem.FreeBytes(mine)
	for _, b := range [][]byte{block, theirs, mine} {
		fill(b[:100], 5)
	}
	for _, c := range []struct {
		name, kind string // kind is said in the error
		b          []byte
	}{
		{"freed already", "free", freed}, // double free, or use after free
		{"from the middle of a block", "interior pointer", block[16:]},
		{"not aligned", "unaligned pointer", block[3:]},
		{"of the Go heap", "not hakmem's", make([]byte, 100)},
		{"of another Allocator", "not the owner's", theirs},
		{"of hakmem itself", "not the owner's", mine},
	} {
		for op, do := range map[string]func(){
			"Free":    func() { _ = a.Free(c.b) },
			"Realloc": func() { _, _ = a.Realloc(c.b, 1) },
		} {
			got := panicOf(do)
			err, _ := got.(error)
			var misuse *hakmem.MisuseError
			if !errors.As(err, &misuse) || !strings.Contains(misuse.Kind, c.kind) {
				t.Errorf("%s of a block %s: %v", op, c.name, got)
			}
			if !strings.Contains(fmt.Sprint(got), fmt.Sprintf("%p", c.b)) {
				t.Errorf("%s of a block %s does not name %p: %v", op, c.name, c.b, got)
			}
		}
	}
	for _, b := range [][]byte{block, theirs, mine} {
		if !holds(b, 100, 5) {
			t.Error("a block has changed")
		}
	}
}

func ExampleAllocator() {
	var a Allocator
	b, err := a.Malloc(5)
	if err != nil {
		panic(err)
	}
	copy(b, "hello")
	b, err = a.Realloc(b, 1000)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(b[:5]))
	fmt.Println(a.Close()) // frees b too
	// Output:
	// hello
	// <nil>
}
