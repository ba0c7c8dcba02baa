package hakmem_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/testkit/workout"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Tests of misuse: every invalid pointer, through every function that takes one, for every kind of
// block. Each call must panic with a *MisuseError that tells the truth, and must change nothing.

// taker is a function that takes a pointer to a block.
type taker struct {
	op    string // as MisuseError.Op spells it
	frees bool
	call  func(unsafe.Pointer)
}

// takers returns all of these functions. UsableSize and the reallocations use a block; the others
// free it.
func takers(t *testing.T) []taker {
	h := hakmem.NewHeap()
	t.Cleanup(h.Close)
	return []taker{
		{"Free", true, hakmem.Free},
		{"Heap.Free", true, h.Free},
		{"FreeBytes", true, func(p unsafe.Pointer) { hakmem.FreeBytes(unsafe.Slice((*byte)(p), 1)) }},
		{"FreeSlice", true, func(p unsafe.Pointer) { hakmem.FreeSlice(unsafe.Slice((*int8)(p), 1)[:0]) }},
		{"Delete", true, func(p unsafe.Pointer) { hakmem.Delete((*bool)(p)) }},
		{"UsableSize", false, func(p unsafe.Pointer) { hakmem.UsableSize(p) }},
		{"Realloc", false, func(p unsafe.Pointer) { hakmem.Realloc(p, 50) }},
		{"Realloc", false, func(p unsafe.Pointer) { hakmem.Realloc(p, 0) }},
		{"Realloc", false, func(p unsafe.Pointer) { hakmem.Realloc(p, 500_000) }},
		{"Realloc", false, func(p unsafe.Pointer) { hakmem.Realloc(p, absurd) }},
		{"AlignedRealloc", false, func(p unsafe.Pointer) { hakmem.AlignedRealloc(p, 50, 64) }},
		{"AlignedRealloc", false, func(p unsafe.Pointer) { hakmem.AlignedRealloc(p, 500_000, 2<<20) }},
		{"ReallocZeroed", false, func(p unsafe.Pointer) { hakmem.ReallocZeroed(p, 1, 500_000) }},
		{"Append", false, func(p unsafe.Pointer) { hakmem.Append(unsafe.Slice((*int8)(p), 1), 1, 2, 3) }},
		{"Heap.Realloc", false, func(p unsafe.Pointer) { h.Realloc(p, 50) }},
		{"Heap.Realloc", false, func(p unsafe.Pointer) { h.Realloc(p, 500_000) }},
	}
}

// These are values of MisuseError.Kind. freed stands for the two that a freed block gives: "double
// free" when it is freed, "use after free" when it is used.
const (
	freed    = "freed"
	interior = "interior pointer"
	unalign  = "unaligned pointer"
	foreign  = "not hakmem's"
	never    = "never allocated"
	arena    = "arena memory"
)

// refuse passes p to every taker. Each must panic with a *MisuseError of one of the kinds, and
// nothing must change. of is the block in which p lies, or the zero Block. The test ends at the
// first failure, because any further one could be its consequence.
func refuse(t *testing.T, takers []taker, what string, p unsafe.Pointer, of workout.Block, kinds ...string) {
	t.Helper()
	quiet(t)
	var before, after hakmem.Stats
	for _, k := range takers {
		if t.Failed() {
			return
		}
		hakmem.ReadStats(&before)
		m, instead := workout.MisuseOf(func() { k.call(p) })
		if m == nil {
			t.Errorf("%s(%s %p): %s, want *MisuseError", k.op, what, p, instead)
			return // the state is not the one that the following cases assume
		}
		hakmem.ReadStats(&after)
		if d := statsDiff(&before, &after); d != "" {
			t.Errorf("%s(%s %p) changed %s", k.op, what, p, d)
		}
		if m.Op != k.op || m.Addr != uintptr(p) || m.Late {
			t.Errorf("%s(%s %p): error %+v", k.op, what, p, *m)
		}
		want := slices.Clone(kinds)
		if i := slices.Index(want, freed); i >= 0 {
			want[i] = "use after free"
			if k.frees {
				want[i] = "double free"
			}
		}
		if !slices.Contains(want, m.Kind) {
			t.Errorf("%s(%s %p): kind %q, want one of %q", k.op, what, p, m.Kind, want)
		}
		// A large block extends to the end of its last page.
		if m.Block != 0 && m.Class != 0 && (m.Addr < m.Block || m.Addr >= m.Block+(m.Class+65535)&^65535) {
			t.Errorf("%s(%s %p): said to lie in block %#x of %d bytes", k.op, what, p, m.Block, m.Class)
		}
		if of.P != nil && (m.Block != uintptr(of.P) || m.Class != hakmem.GoodSize(of.Size)) {
			t.Errorf("%s(%s %p): said to lie in block %#x of %d bytes, and lies in %v", k.op, what, p, m.Block, m.Class, of)
		}
		if text := m.Error(); !strings.Contains(text, m.Op) || !strings.Contains(text, m.Kind) || !strings.Contains(text, fmt.Sprintf("%#x", m.Addr)) {
			t.Errorf("%s(%s %p): error text %q lacks the operation, the kind or the address", k.op, what, p, text)
		}
	}
}

// usableAndFreeable checks that the block is unchanged, and frees it.
func usableAndFreeable(t *testing.T, b workout.Block) {
	t.Helper()
	b.Check(t)
	if u := hakmem.UsableSize(b.P); u < b.Size {
		t.Errorf("%v: usable size %d after the misuse", b, u)
	}
	if v := testkit.PanicOf(func() { hakmem.Free(b.P) }); v != nil {
		t.Errorf("%v cannot be freed after the misuse: %v", b, v)
	}
}

// sources returns the ways to get a block of the sizes below. What counts as misuse must not depend
// on them.
func sources(t *testing.T) map[string]func(uintptr) unsafe.Pointer {
	h := hakmem.NewHeap()
	t.Cleanup(h.Close)
	site := hakmem.RegisterSite("misuse_test")
	return map[string]func(uintptr) unsafe.Pointer{
		"Malloc":       hakmem.Malloc,
		"Heap.Malloc":  h.Malloc,
		"MallocAt":     func(n uintptr) unsafe.Pointer { return hakmem.MallocAt(site, n) },
		"AlignedAlloc": func(n uintptr) unsafe.Pointer { return hakmem.AlignedAlloc(16, n) },
	}
}

func TestMisuseInsideLiveBlock(t *testing.T) {
	classSizes(t)
	takers := takers(t)
	for source, malloc := range sources(t) {
		for _, k := range workout.Kinds {
			t.Run(source+"/"+k.Name, func(t *testing.T) {
				size := hakmem.GoodSize(k.Size)
				b := workout.NewBlock(t, malloc, size, 42)
				for _, off := range []uintptr{16, 32, 4096, 65536, size / 2 &^ 15, size - 16, size - 4096, size - 65536} {
					if off > 0 && off < size { // false also when the subtraction wraps
						refuse(t, takers, fmt.Sprintf("block+%d", off), testkit.Wild(b.P, off), b, interior)
					}
				}
				for _, off := range []uintptr{1, 8, 15, 17, 4095, 65537, size/2 | 1, size - 1} {
					if off < size {
						refuse(t, takers, fmt.Sprintf("block+%d", off), testkit.Wild(b.P, off), b, unalign)
					}
				}
				usableAndFreeable(t, b)
			})
		}
	}
}

// TestMisuseBehindBlocks passes pointers behind the end of a block: into the tail of a slab, or of
// a large block's last page, which belongs to no block.
func TestMisuseBehindBlocks(t *testing.T) {
	classSizes(t)
	takers := takers(t)
	for _, size := range []uintptr{40000, 70000, 200_000, 2<<20 + 1} {
		b := workout.NewBlock(t, hakmem.Malloc, size, 1)
		usable := hakmem.UsableSize(b.P)
		for off := usable; off%65536 != 0; off += 4096 { // up to the end of the page
			refuse(t, takers, fmt.Sprintf("span+%d", off), testkit.Wild(b.P, off), workout.Block{}, interior, never)
		}
		usableAndFreeable(t, b)
	}
	for _, size := range []uintptr{48, 80, 720, 960, 1152, 3584, 11264, 28672} {
		// The last block of a slab: hold all blocks of some slabs, and find a block at whose end no
		// other block starts, because only the slab's tail is left there.
		var blocks []workout.Block
		starts := map[uintptr]bool{}
		for i := range 3 * 512 << 10 / uint64(size) {
			b := workout.NewBlock(t, hakmem.Malloc, size, i)
			blocks = append(blocks, b)
			starts[uintptr(b.P)] = true
		}
		tails := 0
		for _, b := range blocks {
			end := uintptr(b.P) + size
			if boundary := (end + 65535) &^ 65535; !starts[end] && boundary-end < size && boundary != end && tails < 3 {
				if !slices.ContainsFunc(blocks, func(o workout.Block) bool { return uintptr(o.P) < boundary && boundary < uintptr(o.P)+size }) {
					tails++
					refuse(t, takers, fmt.Sprintf("tail of a slab of %d", size), testkit.Wild(b.P, size), workout.Block{}, freed, interior, never)
				}
			}
		}
		for _, b := range blocks {
			usableAndFreeable(t, b)
		}
	}
}

func TestMisuseDoubleFree(t *testing.T) {
	takers := takers(t)
	for source, malloc := range sources(t) {
		for _, k := range workout.Kinds {
			t.Run(source+"/"+k.Name, func(t *testing.T) {
				b := workout.NewBlock(t, malloc, k.Size, 1)
				hakmem.Free(b.P)
				refuse(t, takers, "freed", b.P, workout.Block{}, freed)
			})
		}
	}
}

// otherWork makes n operations on blocks of every class except the given one, so that a freed block
// of that class cannot become live again.
func otherWork(r *rand.Rand, n int, class uintptr) {
	var held []unsafe.Pointer
	for range n {
		if i := r.IntN(64); i < len(held) {
			hakmem.Free(held[i])
			held = slices.Delete(held, i, i+1)
			continue
		}
		size := workout.Kinds[r.IntN(len(workout.Kinds))].Size
		if hakmem.GoodSize(size) != class {
			held = append(held, hakmem.Malloc(size))
		}
	}
	for _, p := range held {
		hakmem.Free(p)
	}
}

func TestMisuseDelayedDoubleFree(t *testing.T) {
	takers := takers(t)
	r := newRand(t, 3)
	for source, malloc := range sources(t) {
		for _, trim := range []bool{false, true} {
			for _, k := range workout.Kinds {
				t.Run(fmt.Sprintf("%s/%s/trim=%v", source, k.Name, trim), func(t *testing.T) {
					class := hakmem.GoodSize(k.Size)
					var blocks []workout.Block
					for i := range uint64(5) {
						blocks = append(blocks, workout.NewBlock(t, malloc, k.Size, i))
					}
					freedOnes := []workout.Block{blocks[1], blocks[3]}
					for _, b := range freedOnes {
						hakmem.Free(b.P)
					}
					if trim {
						hakmem.Trim()
					}
					otherWork(r, 1000, class)
					for _, b := range freedOnes {
						// The pages of a large block may have become part of another block
						// meanwhile. Then p is in the interior of that block.
						refuse(t, takers, "freed long ago", b.P, workout.Block{}, freed, interior, never)
					}
					for i, b := range blocks {
						if i%2 == 0 {
							usableAndFreeable(t, b)
						}
					}
				})
			}
		}
	}
}

// TestMisuseAfterReuseByAnotherSize frees blocks of one class, lets blocks of another class take
// their memory, and frees the old pointers again. Where an old pointer happens to be the start of a
// new block, it is a valid pointer to that block. Everywhere else it must be refused, and the new
// block must be unharmed.
func TestMisuseAfterReuseByAnotherSize(t *testing.T) {
	classSizes(t)
	takers := takers(t)
	classes := []uintptr{48, 1024, 3072, 20480, 40960, 327680, 3 << 20}
	if testing.Short() {
		classes = []uintptr{48, 3072, 40960, 3 << 20}
	}
	for _, a := range classes {
		for _, b := range classes {
			if a == b {
				continue
			}
			t.Run(fmt.Sprintf("%d by %d", a, b), func(t *testing.T) {
				const bytes = 8 << 20
				hakmem.Trim() // else the next allocations would take memory that becomes free only later
				var old []unsafe.Pointer
				for range bytes / a {
					old = append(old, hakmem.Malloc(a))
				}
				for _, p := range old {
					hakmem.Free(p)
				}
				hakmem.Trim() // empties the magazines: now all of this memory may be used again
				var blocks []workout.Block
				for i := range uint64(2 * bytes / b) {
					blocks = append(blocks, workout.NewBlock(t, hakmem.Malloc, b, i))
				}
				workout.MustNotOverlap(t, blocks)
				slices.SortFunc(blocks, func(x, y workout.Block) int { return int(uintptr(x.P)>>4) - int(uintptr(y.P)>>4) })
				tried := 0
				for i := 0; i < len(old) && tried < 20; i += 1 + len(old)/500 {
					p := old[i]
					at, starts := slices.BinarySearchFunc(blocks, p, func(x workout.Block, p unsafe.Pointer) int { return int(uintptr(x.P)>>4) - int(uintptr(p)>>4) })
					if starts || at == 0 {
						continue
					}
					if in := blocks[at-1]; uintptr(p) < uintptr(in.P)+b {
						tried++
						refuse(t, takers, fmt.Sprintf("freed as %d, now inside a block of %d", a, b), p, in, interior)
						in.Check(t)
					}
				}
				if tried == 0 && a < b {
					t.Errorf("no block of %d bytes lies where those of %d were: memory is not used again across classes", b, a)
				}
				for _, x := range blocks {
					usableAndFreeable(t, x)
				}
			})
		}
	}
}

var (
	globalBytes [64]byte
	globalData  = [8]uint64{1, 2, 3} // in the data segment, while others are in the bss
)

func TestMisuseOfMemoryThatIsNotHakmems(t *testing.T) {
	takers := takers(t)
	var onStack [64]byte
	onHeap := make([]byte, 1<<20)
	small := new(int64)
	b := workout.NewBlock(t, hakmem.Malloc, 100, 9)
	for what, p := range map[string]unsafe.Pointer{
		"stack":             unsafe.Pointer(&onStack),
		"middle of a stack": unsafe.Pointer(&onStack[17]),
		"Go heap":           unsafe.Pointer(&onHeap[0]),
		"Go heap, middle":   unsafe.Pointer(&onHeap[5000]),
		"small Go object":   unsafe.Pointer(small),
		"bss":               unsafe.Pointer(&globalBytes),
		"data":              unsafe.Pointer(&globalData[1]),
		"read-only data":    unsafe.Pointer(unsafe.StringData("read-only data")),
		"code":              **(**unsafe.Pointer)(unsafe.Pointer(&codePointer)),
		"empty slice":       unsafe.Pointer(unsafe.SliceData([]byte{})),
	} {
		refuse(t, takers, what, p, workout.Block{}, foreign)
	}
	runtime.KeepAlive(onHeap)
	usableAndFreeable(t, b)
}

var codePointer = func() {}

func TestMisuseOfWildAddresses(t *testing.T) {
	takers := takers(t)
	b := workout.NewBlock(t, hakmem.Malloc, 100, 9)
	at := func(addr uintptr) unsafe.Pointer { return testkit.Wild(nil, addr) }
	for what, addr := range map[string]uintptr{
		"one page":      4096,
		"0xdeadbeef":    0xdeadbeef,
		"0xdeadbeef000": 0xdeadbeef000,
		"2^46":          1 << 46,
		"2^47":          1 << 47,
		"not canonical": 0x0123456789abcde0,
		"2^63":          1 << 63,
		"-16":           math.MaxUint - 15,
		"-4096":         math.MaxUint - 4095,
		"all ones":      math.MaxUint,
		"block - 2 TiB": uintptr(b.P) - 2<<40, // a region has at most 1.07 TiB
		"block + 2 TiB": uintptr(b.P) + 2<<40,
		"block + 2^60":  uintptr(b.P) + 1<<60,
		"block ^ 2^63":  uintptr(b.P) ^ 1<<63,
	} {
		refuse(t, takers, what, at(addr), workout.Block{}, foreign)
	}
	usableAndFreeable(t, b)
}

// TestMisuseOfSmallIntegers keeps the values away from stacks that may be copied, because the
// runtime stops the program when it finds a pointer below 4096 on a stack. So the stack is grown
// first, and the collector, which shrinks stacks, is off.
func TestMisuseOfSmallIntegers(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	ops := takers(t)
	type outcome struct {
		op   string
		n    uintptr
		m    *hakmem.MisuseError
		what string
	}
	var got []outcome
	var wg sync.WaitGroup
	wg.Go(func() {
		growStack(64)
		for _, n := range []uintptr{1, 2, 8, 15, 16, 17, 24, 32, 255, 256, 4080, 4095} {
			for _, k := range ops {
				m, instead := misuseAt(k.call, n)
				got = append(got, outcome{k.op, n, m, instead})
			}
		}
	})
	wg.Wait()
	for _, o := range got {
		if o.m == nil {
			t.Errorf("%s(%d): %s", o.op, o.n, o.what)
		} else if o.m.Kind != foreign || o.m.Op != o.op || o.m.Addr != o.n {
			t.Errorf("%s(%d): error %+v", o.op, o.n, *o.m)
		}
	}
}

// growStack uses n KiB of stack.
//
//go:noinline
func growStack(n int) (sum byte) {
	var b [1024]byte
	if n > 0 {
		sum = growStack(n - 1)
	}
	b[n] = 1
	return sum + b[n/2]
}

// misuseAt is nocheckptr because checkptr refuses pointers below 4096.
//
//go:nocheckptr
func misuseAt(call func(unsafe.Pointer), addr uintptr) (m *hakmem.MisuseError, instead string) {
	return workout.MisuseOf(func() { callAt(call, addr) })
}

//go:noinline
//go:nocheckptr
func callAt(call func(unsafe.Pointer), addr uintptr) { call(testkit.Wild(nil, addr)) }

func TestMisuseOfNeverAllocatedAddresses(t *testing.T) {
	takers := takers(t)
	b := workout.NewBlock(t, hakmem.Malloc, 64, 1)
	s := workout.ReadStats()
	// The lowest pages are committed first, so what is committed ends below block + Committed, and
	// the region extends far above that.
	for what, off := range map[string]uint64{
		"just above what is committed": s.Committed,
		"half a region up":             s.Reserved / 2,
		"most of a region up":          s.Reserved / 4 * 3,
	} {
		for _, more := range []uint64{0, 16, 4096, 65536, 2 << 20} {
			refuse(t, takers, what, testkit.Wild(b.P, off+more), workout.Block{}, never)
		}
		refuse(t, takers, what+", unaligned", testkit.Wild(b.P, off+1), workout.Block{}, never, unalign)
	}
	// Below all blocks there is metadata, or an address before the region.
	below := []uint64{s.Committed + 1<<20, s.Reserved / 64, s.Reserved / 20, s.Reserved / 4}
	if !osmem.ReadableReserve {
		below = nil // the fast section would fault there: docs/design.md, section 12
	}
	for _, down := range below {
		refuse(t, takers, "below all blocks", testkit.Wild(b.P, -int(down&^15)), workout.Block{}, never, foreign)
	}
	// Free pages below the committed bound: the middle of a large block that was freed.
	large := hakmem.Malloc(4 << 20)
	hakmem.Free(large)
	for _, off := range []uintptr{65536, 1 << 20, 4<<20 - 16} {
		refuse(t, takers, "middle of a freed span", testkit.Wild(large, off), workout.Block{}, never, freed, interior)
	}
	usableAndFreeable(t, b)
}

func TestMisuseOfArenaMemory(t *testing.T) {
	takers := takers(t)
	a := hakmem.NewArena()
	var blocks []workout.Block
	for i, n := range []uintptr{16, 16, 100, 3000, 60_000, 200_000, 3 << 20} {
		p := a.Alloc(n, 16)
		testkit.Fill(p, n, uint64(i))
		blocks = append(blocks, workout.Block{P: p, Size: n, Key: uint64(i)})
	}
	for _, b := range blocks {
		refuse(t, takers, "arena memory", b.P, workout.Block{}, arena)
		refuse(t, takers, "arena memory, unaligned", testkit.Wild(b.P, 1), workout.Block{}, arena, unalign)
	}
	for _, b := range blocks {
		b.Check(t)
	}
	testkit.Fill(a.Alloc(1000, 16), 1000, 1)
	a.Reset()
	refuse(t, takers, "arena memory after Reset", blocks[0].P, workout.Block{}, arena)
	a.Close()
	for _, b := range blocks {
		refuse(t, takers, "memory of a closed arena", b.P, workout.Block{}, "memory of a closed arena", interior, never)
	}
}

func TestMisuseOfSlices(t *testing.T) {
	quiet(t)
	for _, n := range []int{2, 40, 1024, 5000, 32 << 10, 100_000, 3 << 20} {
		b := hakmem.Alloc(n)
		testkit.Fill(unsafe.Pointer(unsafe.SliceData(b)), uintptr(n), 5)
		subs := map[string][]byte{
			"b[1:]":           b[1:],
			"b[len/2:]":       b[n/2:],
			"b[len-1:]":       b[n-1:],
			"b[1:1]":          b[1:1],
			"append(b, x)":    append(b, 1),
			"append(nil, b…)": append([]byte(nil), b...),
			"[]byte{}":        {},
		}
		if n > 16 {
			subs["b[16:]"] = b[16:]
		}
		for what, sub := range subs {
			before := workout.ReadStats()
			m, instead := workout.MisuseOf(func() { hakmem.FreeBytes(sub) })
			after := workout.ReadStats()
			if m == nil {
				t.Fatalf("FreeBytes(%s) of %d bytes: %s", what, n, instead)
			}
			if m.Op != "FreeBytes" || m.Addr != uintptr(unsafe.Pointer(unsafe.SliceData(sub))) || !slices.Contains([]string{interior, unalign, foreign}, m.Kind) {
				t.Errorf("FreeBytes(%s) of %d bytes: error %+v", what, n, *m)
			}
			if d := statsDiff(&before, &after); d != "" {
				t.Errorf("FreeBytes(%s) of %d bytes changed %s", what, n, d)
			}
		}
		usableAndFreeable(t, workout.Block{P: unsafe.Pointer(unsafe.SliceData(b)), Size: uintptr(n), Key: 5})
		if m, instead := workout.MisuseOf(func() { hakmem.FreeBytes(b) }); m == nil {
			t.Errorf("FreeBytes of a freed slice of %d bytes: %s", n, instead)
		}
	}

	s := hakmem.MakeSlice[uint64](10, 10)
	grown := append(s, 1)
	for what, sub := range map[string][]uint64{"s[1:]": s[1:], "s[9:]": s[9:], "append(s, x)": grown} {
		if m, instead := workout.MisuseOf(func() { hakmem.FreeSlice(sub) }); m == nil || m.Op != "FreeSlice" {
			t.Errorf("FreeSlice(%s): %s %v", what, instead, m)
		}
	}
	hakmem.FreeSlice(s)

	x := hakmem.New[plainStruct]()
	for what, do := range map[string]func(){
		"a field":   func() { hakmem.Delete(&x.B) },
		"a Go heap": func() { hakmem.Delete(new(plainStruct)) },
		"a global":  func() { hakmem.Delete(&globalData) },
	} {
		if m, instead := workout.MisuseOf(do); m == nil || m.Op != "Delete" {
			t.Errorf("Delete(%s): %s %v", what, instead, m)
		}
	}
	hakmem.Delete(x)
	if m, instead := workout.MisuseOf(func() { hakmem.Delete(x) }); m == nil || m.Kind != "double free" {
		t.Errorf("Delete twice: %s %v", instead, m)
	}
}

// TestMisuseFromManyGoroutines checks that refused calls do not disturb goroutines that do nothing
// wrong at the same time.
func TestMisuseFromManyGoroutines(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	base := workout.ReadStats()
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 1))
			var onStack [16]byte
			for i := range rounds {
				b := workout.NewBlock(t, hakmem.Malloc, workout.Kinds[r.IntN(11)].Size, g<<32|uint64(i))
				for _, p := range []unsafe.Pointer{testkit.Wild(b.P, 1), unsafe.Pointer(&onStack), testkit.Wild(b.P, 1<<60)} {
					if m, instead := workout.MisuseOf(func() { hakmem.Free(p) }); m == nil {
						t.Errorf("Free(%p): %s", p, instead)
						return
					}
				}
				if !testkit.Intact(b.P, b.Size, b.Key) {
					t.Errorf("%v: contents changed", b)
					return
				}
				hakmem.Free(b.P)
			}
		})
	}
	wg.Wait()
	if now := workout.ReadStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
}

// racers runs a function on two goroutines at the same moment, again and again.
type racers struct {
	do          func(which int)
	round, done atomic.Uint64
	stop        atomic.Bool
	wg          sync.WaitGroup
	sink        uint64
}

// start makes the second goroutine. The caller of next is the first.
func (r *racers) start(do func(which int)) {
	r.do = do
	r.wg.Go(func() {
		for seen := uint64(0); ; seen++ {
			// Spin, because waking up takes longer than the window of the race.
			for i := 1; r.round.Load() == seen; i++ {
				if r.stop.Load() {
					return
				}
				if i%1000 == 0 {
					runtime.Gosched()
				}
			}
			do(1)
			r.done.Add(1)
		}
	})
}

// next calls do(0) and do(1) at the same moment. The other goroutine notices some tens of
// nanoseconds later, so this one first waits for 0 to 127 steps, a different number each time. Now
// and then the two calls meet.
func (r *racers) next() {
	n := r.round.Add(1)
	for i := range n * 37 % 128 {
		r.sink += i
	}
	r.do(0)
	for i := 1; r.done.Load() < n; i++ {
		if i%1000 == 0 {
			runtime.Gosched()
		}
	}
}

func (r *racers) end() {
	r.stop.Store(true)
	r.wg.Wait()
}

// trimAll is Trim until all findings of earlier misuse are reported: each call reports one.
func trimAll() {
	for testkit.PanicOf(hakmem.Trim) != nil {
	}
}

// TestMisuseRacingFrees lets two goroutines free the same block at the same time. Either one of
// them panics, or both pass and the second free is found late: when its copy of the block leaves
// its magazine, here because of Trim. In the end the heap is as if each block had been freed once.
func TestMisuseRacingFrees(t *testing.T) {
	rounds := 20_000
	switch {
	case testkit.Race: // a round takes a hundred times as long
		rounds = 400
	case testing.Short():
		rounds = 2000
	}
	for _, k := range workout.Kinds {
		t.Run(k.Name, func(t *testing.T) {
			trimAll()
			base := workout.ReadStats()
			var p unsafe.Pointer
			var outcome [2]any
			h := hakmem.NewHeap()
			frees := []func(unsafe.Pointer){hakmem.Free, hakmem.Free}
			var r racers
			r.start(func(which int) { outcome[which] = testkit.PanicOf(func() { frees[which](p) }) })
			both, late := uint64(0), uint64(0)
			for i := range rounds {
				// In half of the rounds one free goes through a Heap, whose magazine is not the
				// P's.
				if frees[1] = hakmem.Free; i%2 == 0 {
					frees[1] = h.Free
				}
				if p = hakmem.Malloc(k.Size); p == nil {
					t.Fatal("nil")
				}
				r.next()
				n := 0
				for _, v := range outcome {
					if v == nil {
						continue
					}
					m, ok := v.(*hakmem.MisuseError)
					if !ok || m.Kind != "double free" {
						t.Fatalf("round %d: panic %v", i, v)
					}
					if m.Late {
						late++
						continue
					}
					n++
				}
				switch n {
				case 0: // both passed: make the copies leave their magazines
					both++
					// The copy in the Heap's magazine or the one in a P's may come first, and take
					// the slab with it.
					steps := []func(){h.Close, hakmem.Trim, hakmem.Trim}
					if both%2 == 0 {
						steps = []func(){hakmem.Trim, h.Close, hakmem.Trim}
					}
					for step, do := range steps {
						if v := testkit.PanicOf(do); v != nil {
							if m, ok := v.(*hakmem.MisuseError); !ok || !m.Late || m.Addr != uintptr(p) {
								t.Fatalf("step %d of %d: panic %v", step, both%2, v)
							}
							late++
						}
					}
					h = hakmem.NewHeap()
				case 2:
					t.Fatalf("round %d: both frees of %p were refused: %v, %v", i, p, outcome[0], outcome[1])
				}
			}
			r.end()
			h.Close()
			now := workout.ReadStats()
			if got := now.LateDoubleFrees - base.LateDoubleFrees; got != both {
				t.Errorf("%d pairs of frees both passed, %d were counted as found late", both, got)
			}
			if now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
				t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
			}
			t.Logf("%d of %d pairs both passed, %d reported by a late panic", both, rounds, late)
			// No block is handed out twice.
			var blocks []workout.Block
			for i := range min(200_000, 64<<20/uint64(k.Size)) {
				blocks = append(blocks, workout.NewBlock(t, hakmem.Malloc, k.Size, i))
			}
			workout.MustNotOverlap(t, blocks)
			for _, b := range blocks {
				b.Check(t)
				hakmem.Free(b.P)
			}
		})
	}
}

// passed reports, from the value v with which a free panicked, whether the free took its block. It
// did if v is a late report, because that is about some earlier block.
func passed(v any) bool {
	m, ok := v.(*hakmem.MisuseError)
	return v == nil || ok && m.Late
}

// TestMisuseRacingFreesThenMalloc frees a block twice at the same time and lets both copies leave
// their magazines through Malloc, which does not check whether a block is live. The block may then
// have two holders, and the misuse is found when the second of them frees it. Every other copy is
// found late. In the end the number of findings is the number of frees that passed although they
// were one too many.
func TestMisuseRacingFreesThenMalloc(t *testing.T) {
	rounds := 50_000
	if testing.Short() {
		rounds = 5000
	}
	for _, size := range []uintptr{48, 1024, 3000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			trimAll()
			base := workout.ReadStats()
			var p unsafe.Pointer
			var freeing bool // false: they allocate
			var outcome [2]any
			var got [2]unsafe.Pointer
			h := hakmem.NewHeap()
			// The allocation may find a copy and report it late, when a goroutine frees into one
			// front and allocates from another.
			take := func(malloc func(uintptr) unsafe.Pointer) (q unsafe.Pointer) {
				for {
					v := testkit.PanicOf(func() { q = malloc(size) })
					if v == nil {
						return q
					}
					if !passed(v) {
						panic(v)
					}
				}
			}
			var r racers
			r.start(func(which int) {
				free, malloc := hakmem.Free, hakmem.Malloc
				if which == 1 {
					free, malloc = h.Free, h.Malloc
				}
				if freeing {
					outcome[which] = testkit.PanicOf(func() { free(p) })
				} else {
					got[which] = take(malloc)
				}
			})
			both, twice, refused := uint64(0), 0, uint64(0)
			for range rounds {
				p = take(hakmem.Malloc)
				freeing = true
				r.next()
				if passed(outcome[0]) && passed(outcome[1]) {
					both++
				}
				freeing = false
				r.next()
				if got[0] == got[1] {
					twice++
				}
				for which, free := range []func(unsafe.Pointer){hakmem.Free, h.Free} {
					if v := testkit.PanicOf(func() { free(got[which]) }); !passed(v) {
						refused++
						if _, ok := v.(*hakmem.MisuseError); !ok {
							t.Fatal(v)
						}
					}
				}
			}
			r.end()
			testkit.PanicOf(h.Close) // may report what is found late
			trimAll()
			now := workout.ReadStats()
			if late := now.LateDoubleFrees - base.LateDoubleFrees; late+refused != both {
				t.Errorf("%d pairs of frees both passed; %d were found late and %d at the second holder's free", both, late, refused)
			}
			if now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
				t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
			}
			t.Logf("%d of %d pairs both passed, %d blocks had two holders", both, rounds, twice)
		})
	}
}

var _ = testkit.Child("before first use", beforeFirstUse)

// beforeFirstUse passes pointers, and makes queries, before there is a region.
func beforeFirstUse(string) error {
	var x [64]byte
	for what, do := range map[string]func(){
		"Free":            func() { hakmem.Free(unsafe.Pointer(&x)) },
		"Free, unaligned": func() { hakmem.Free(unsafe.Pointer(&x[1])) },
		"Free, wild":      func() { hakmem.Free(unsafe.Add(nil, uintptr(0xdeadbeef000))) },
		"UsableSize":      func() { hakmem.UsableSize(unsafe.Pointer(&x)) },
		"Realloc":         func() { hakmem.Realloc(unsafe.Pointer(&x), 100) },
		"FreeBytes":       func() { hakmem.FreeBytes(x[:]) },
	} {
		if m, instead := workout.MisuseOf(do); m == nil || m.Kind != foreign {
			return fmt.Errorf("%s before the first allocation: %s %v", what, instead, m)
		}
	}
	hakmem.Trim()
	hakmem.NewArena().Close()
	if s := workout.ReadStats(); s.Reserved != 0 || s.Committed != 0 || s.SystemCalls != (hakmem.SystemCallStats{}) {
		return fmt.Errorf("something was reserved before the first allocation: %+v", s)
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	return workout.NothingLost()
}

func TestBeforeFirstUse(t *testing.T) { testkit.InChild(t, "before first use", "") }

var _ = testkit.Child("wild addresses", wildAddresses)

// wildAddresses frees addresses at every distance from the only live block: in the region, next to
// it, and where a larger region would have been.
func wildAddresses(string) error {
	h := hakmem.NewHeap()
	defer h.Close()
	takers := map[string]func(unsafe.Pointer){
		"Free":       hakmem.Free,
		"Heap.Free":  h.Free,
		"UsableSize": func(p unsafe.Pointer) { hakmem.UsableSize(p) },
		"Realloc":    func(p unsafe.Pointer) { hakmem.Realloc(p, 10) },
	}
	b := workout.Block{P: hakmem.Malloc(64), Size: 64, Key: 1}
	if b.P == nil {
		return hakmem.Err()
	}
	testkit.Fill(b.P, b.Size, b.Key)
	var offsets []uintptr
	for shift := 4; shift < 64; shift++ {
		for eighth := range uintptr(8) {
			d := uintptr(1)<<shift + eighth<<shift/8&^15
			offsets = append(offsets, d, d+1, d+8, d-16, -d, -d+16)
		}
	}
	// Distances close to the sizes that regions have.
	for _, size := range []uintptr{uintptr(workout.ReadStats().Reserved), 1 << 28, 1 << 36, 1 << 40, 1<<40 + 1<<40/15, 1 << 41} {
		for i := range 9 {
			d := uintptr((i - 4) << 20)
			offsets = append(offsets, size+d, size*16/15+d, size*15/16+d, size/16+d)
		}
	}
	for _, off := range offsets {
		p := testkit.Wild(b.P, off)
		if p == b.P || uintptr(p) < 4096 {
			continue
		}
		if !osmem.ReadableReserve && engine.InLiveMap(mem.Addr(p)) {
			continue // the live map's own part of the region: docs/design.md, section 12
		}
		for name, take := range takers {
			if m, instead := workout.MisuseOf(func() { take(p) }); m == nil || m.Addr != uintptr(p) || m.Kind == "" {
				return fmt.Errorf("%s(%p), %#x from a block, region of %d bytes: %s %v", name, p, off, workout.ReadStats().Reserved, instead, m)
			}
		}
	}
	if !testkit.Intact(b.P, b.Size, b.Key) {
		return fmt.Errorf("%v is damaged", b)
	}
	hakmem.Free(b.P)
	return workout.NothingLost()
}

func TestWildAddressesAroundRegions(t *testing.T) {
	for _, bytes := range []int64{256 << 20, 1 << 30, 3 << 30, 100 << 30, 1 << 40} {
		testkit.InChild(t, "wild addresses", "", "HAKMEM_REGION_BYTES="+strconv.FormatInt(bytes, 10))
	}
	testkit.InChild(t, "wild addresses", "") // the default size of the region
}
