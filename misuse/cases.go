package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// sizes are the block sizes of the cases: one of each kind that hakmem treats differently. "any" is
// for cases without a block.
var sizes = map[string]uintptr{
	"any":   0,
	"tiny":  48,
	"mid":   4096,
	"large": 256 << 10, // a large block, which magazines keep
	"big":   3 << 20,   // a huge block: above 2 MiB
	"huge":  6 << 20,   // a huge block above 4 MiB: HAKMEM_HARDEN neither poisons it nor holds it in the quarantine
}

// sizeNames are the names of all sizes, in the order of the tables.
var sizeNames = []string{"any", "tiny", "mid", "large", "big", "huge"}

var (
	noSize   = []string{"any"}
	allSizes = sizeNames[1:]
	spans    = []string{"large", "big", "huge"}
)

// misuseCase is one thing that a program should not do.
type misuseCase struct {
	name  string // OP-WHAT for cases where function OP gets a bad pointer
	title string // of the row in docs/security.md; cases with the same title share a row
	op    string // the function, where one row has cases for several functions
	group string // the table in docs/security.md
	sizes []string
	why   reasons
	run   func(*trial)

	// unsound: nothing can be expected of the allocator afterwards.
	unsound bool
	// chance: the outcome differs from run to run, except at level race.
	chance bool
}

// reasons say why a case is not caught, by level; "" stands for every level without a reason of its
// own.
type reasons map[string]string

func (r reasons) of(level string) string {
	if s, ok := r[level]; ok {
		return s
	}
	return r[""]
}

func always(why string) reasons { return reasons{"": why} }

const (
	whyReused     = "the block was freed and a new live block starts there now: the pointer is valid. The new holder's own free is then one too many"
	whyContents   = "nothing checks the bytes: they belong to the program"
	whyReads      = "reads are not checked"
	whyBeyond     = "the canary is at most 32 bytes long, and what follows it belongs to another block or to none"
	whySlack      = "the bytes up to UsableSize belong to the block: no harm is done"
	whySpanBefore = "the canary of the large block before ends 32 bytes after the bytes asked for, and the end of its last page belongs to no block: no harm is done"
	whyHuge       = "blocks above 4 MiB are neither poisoned nor held in the quarantine"
	whyHolder     = "the bytes belong to the new holder, who may write them"
	whyArena      = "an Arena's pieces are not blocks: no state is kept for them"
	whyArenaClose = "an Arena's chunks do not go through the quarantine"
	whyEmptySlice = "Go lets an empty slice at the end of its array point to the start of the array: the pointer is valid"
	whyType       = "the size comes from the block, not from the type: no harm is done"
	whyHeap       = "a Heap has no lock and no owner: that is what makes it fast"
	whyGoPointer  = "the garbage collector does not look into hakmem's memory, and only the typed functions know the type"
	whyHolders    = "the byte belongs to another live block"
	whyRaceRegion = "with the tag hakmem_racetrack the region is one Go allocation, which may be used up to its end"
	whyPieceAgain = "the bytes belong to the next piece, whose holder may write them"
	whyMoved      = "in place: Realloc had no reason to move the block, and the pointer is valid"
)

// cases are all cases, in the order of the tables.
var cases = slices.Concat(pointerCases(), freeCases(), boundsCases(), afterFreeCases(), sizeCases(), typedCases(), ownerCases())

func caseNamed(name string) *misuseCase {
	i := slices.IndexFunc(cases, func(c *misuseCase) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return cases[i]
}

// malloc allocates a block of the trial's size and writes 'A' to its first, middle and last byte.
func (t *trial) malloc() uintptr { return t.mallocOf(t.size, 'A') }

func (t *trial) mallocOf(size uintptr, mark byte) uintptr {
	p := addr(hakmem.Malloc(size))
	if p == 0 {
		panic(fmt.Sprintf("no block of %d bytes: %v", size, hakmem.Err()))
	}
	for _, at := range []uintptr{0, size / 2, size - 1} {
		write(p+at, mark)
	}
	return p
}

// many is a number of blocks of the size that fills several slabs.
func (t *trial) many() int {
	if guarded() { // each lies alone, and allocating it is slow
		return 16
	}
	return int(min(max(128<<10/t.size, 6), 5000))
}

func (t *trial) mallocMany(n int) []uintptr {
	var b []uintptr
	for range n {
		b = append(b, t.malloc())
	}
	return b
}

func free(blocks ...uintptr) {
	for _, p := range blocks {
		hakmem.Free(ptr(p))
	}
}

// row returns three live blocks that are neighbours in memory.
func (t *trial) row() (before, p, behind uintptr) {
	b := t.mallocMany(t.many())
	if guarded() { // each lies alone: any three will do
		return b[0], b[1], b[2]
	}
	slices.Sort(b)
	stride := uintptr(math.MaxUint)
	for i := 1; i < len(b); i++ {
		stride = min(stride, b[i]-b[i-1])
	}
	for i := 2; i < len(b); i++ {
		if b[i]-b[i-1] == stride && b[i-1]-b[i-2] == stride {
			return b[i-2], b[i-1], b[i]
		}
	}
	panic("no three blocks lie side by side")
}

// reuse allocates until a new live block, marked 'B', starts at p, which is free.
func (t *trial) reuse(p uintptr) {
	// Once is enough, unless the goroutine moves to another P meanwhile.
	for range 5 {
		hakmem.Trim() // empties the quarantine
		for range 2 * t.many() {
			if t.mallocOf(t.size, 'B') == p {
				return
			}
		}
		if guarded() {
			panic(impossible("an address is not handed out again soon"))
		}
	}
	panic("the block was not handed out again")
}

// badPointers are the pointers that no function may be given. make brings the allocator into the
// state that the case needs and returns one.
var badPointers = []struct {
	name, title string
	sizes       []string
	why         reasons
	make        func(*trial) uintptr
}{
	{"freed", "freed just before", allSizes, nil, func(t *trial) uintptr {
		p := t.malloc()
		free(p)
		return p
	}},
	{"freed-delayed", "freed, then many other blocks freed", allSizes, nil, func(t *trial) uintptr {
		b := t.mallocMany(t.many())
		p := b[len(b)/2]
		free(p)
		for _, other := range b {
			if other != p {
				free(other)
			}
		}
		return p
	}},
	{"freed-interleaved", "freed, then other blocks allocated and freed", allSizes, nil, func(t *trial) uintptr {
		_, p, q := t.row() // the others keep its slab in use: an empty one may become another class's at any time
		free(p, q)
		for i := range uintptr(1000) {
			size := 64 + i*i%200_000
			if hakmem.GoodSize(size) != hakmem.GoodSize(t.size) {
				free(t.mallocOf(size, 'C'))
			}
		}
		return p
	}},
	{"freed-elsewhere", "freed by another goroutine, through a Heap", allSizes, nil, func(t *trial) uintptr {
		p := t.malloc()
		done := make(chan struct{})
		go func() {
			h := hakmem.NewHeap()
			h.Free(ptr(p))
			close(done)
		}()
		<-done
		return p
	}},
	{"freed-realloc", "moved by Realloc", []string{"tiny", "mid", "large", "big"}, nil, func(t *trial) uintptr {
		_, p, _ := t.row()
		if q := addr(hakmem.Realloc(ptr(p), t.size*4)); q == p || q == 0 {
			panic("Realloc did not move the block")
		}
		return p
	}},
	{"freed-trim", "freed, then Trim", allSizes, nil, func(t *trial) uintptr {
		_, p, _ := t.row()
		free(p)
		hakmem.Trim()
		return p
	}},
	{"freed-returned", "freed along with all blocks around it; slab and pages given back", allSizes, nil, func(t *trial) uintptr {
		b := t.mallocMany(t.many())
		free(b...)
		hakmem.Trim()
		hakmem.Trim()
		return b[len(b)/2]
	}},
	{"freed-recycled", "freed; its memory is now inside a block of another size", allSizes, nil, func(t *trial) uintptr {
		old := t.mallocMany(t.many() * 2)
		slices.Sort(old)
		free(old...)
		hakmem.Trim()
		size := map[uintptr]uintptr{48: 3000, 4096: 20_000, 256 << 10: 2 << 20, 3 << 20: 5 << 20, 6 << 20: 10 << 20}[t.size]
		var now []uintptr
		for range uintptr(len(old))*t.size/size + 8 {
			now = append(now, t.mallocOf(size, 'B'))
		}
		for _, p := range old {
			for _, q := range now {
				if p > q && p < q+size {
					return p
				}
			}
		}
		if guarded() {
			panic(impossible("an address is not handed out again soon"))
		}
		panic("no old block lies inside a new one")
	}},
	{"reused", "freed; a new live block starts there now", allSizes, always(whyReused), func(t *trial) uintptr {
		p := t.malloc()
		free(p)
		t.reuse(p)
		return p
	}},
	{"interior", "16 bytes into a block", allSizes, nil, func(t *trial) uintptr { return t.malloc() + 16 }},
	{"interior-page", "a page of 4 KiB into a block", spans, nil, func(t *trial) uintptr { return t.malloc() + 4096 }},
	{"interior-half", "the middle of a block", []string{"mid", "large", "big", "huge"}, nil, func(t *trial) uintptr { return t.malloc() + t.size/2 }},
	{"unaligned-1", "a block's second byte", allSizes, nil, func(t *trial) uintptr { return t.malloc() + 1 }},
	{"unaligned-8", "8 bytes into a block", allSizes, nil, func(t *trial) uintptr { return t.malloc() + 8 }},
	{"stack", "a variable on the stack", noSize, nil, func(t *trial) uintptr {
		t.mallocOf(48, 'A')
		var b [64]byte
		return addr(unsafe.Pointer(&b)) // the stack was grown before: it does not move
	}},
	{"global", "a global variable", noSize, nil, func(t *trial) uintptr { t.mallocOf(48, 'A'); return addr(unsafe.Pointer(&global)) }},
	{"constant", "the bytes of a constant string", noSize, nil, func(t *trial) uintptr {
		t.mallocOf(48, 'A')
		return addr(unsafe.Pointer(unsafe.StringData("read-only data")))
	}},
	{"code", "a function", noSize, nil, func(t *trial) uintptr {
		t.mallocOf(48, 'A')
		return **(**uintptr)(unsafe.Pointer(&function))
	}},
	{"go-heap", "memory from make", noSize, nil, func(t *trial) uintptr {
		t.mallocOf(48, 'A')
		made = make([]byte, 1<<20)
		return addr(unsafe.Pointer(&made[4096]))
	}},
	{"one", "the number 1", noSize, nil, func(t *trial) uintptr { t.mallocOf(48, 'A'); return 1 }},
	{"wild", "an address with nothing mapped", noSize, nil, func(t *trial) uintptr { t.mallocOf(48, 'A'); return 0xdeadbeef000 }},
	{"not-canonical", "a number that is not a valid address", noSize, nil, func(t *trial) uintptr { t.mallocOf(48, 'A'); return 0x0123456789abcde0 }},
	{"contents", "eight bytes of text, taken for a pointer", noSize, nil, func(t *trial) uintptr {
		t.mallocOf(48, 'A')
		return 0x4141414141414141
	}},
	{"no-region", "any address, before the first allocation", noSize, nil, func(t *trial) uintptr { return addr(unsafe.Pointer(&global)) }},
	{"mapping", "memory from mmap", noSize, nil, func(t *trial) uintptr { t.mallocOf(48, 'A'); return mapping(true) }},
	{"mapping-protected", "memory from mmap without access rights", noSize, nil, func(t *trial) uintptr { t.mallocOf(48, 'A'); return mapping(false) }},
	{"never-near", "hakmem's region, just above all blocks", noSize, nil, func(t *trial) uintptr {
		p := inRegion()
		var s hakmem.Stats
		hakmem.ReadStats(&s)
		return p&^0xFFFF + uintptr(s.Committed) + 64<<10
	}},
	{"never-far", "hakmem's region, far above all blocks", noSize, nil, func(t *trial) uintptr {
		p := inRegion()
		var s hakmem.Stats
		hakmem.ReadStats(&s)
		return p + uintptr(s.Reserved)/2&^15
	}},
	{"metadata", "hakmem's metadata, below all blocks", noSize, nil, func(t *trial) uintptr {
		p := inRegion()
		var s hakmem.Stats
		hakmem.ReadStats(&s)
		return p - uintptr(s.Reserved)/64&^15
	}},
	{"arena", "memory of an Arena", allSizes, nil, func(t *trial) uintptr { return addr(hakmem.NewArena().Alloc(t.size, 16)) }},
	{"arena-reset", "memory of an Arena after its Reset", allSizes, nil, func(t *trial) uintptr {
		a := hakmem.NewArena()
		p := addr(a.Alloc(t.size, 16))
		a.Reset()
		return p
	}},
	{"arena-closed", "memory of an Arena after its Close", allSizes, nil, func(t *trial) uintptr {
		a := hakmem.NewArena()
		p := addr(a.Alloc(t.size, 16))
		a.Close()
		return p
	}},
}

// inRegion returns an address inside hakmem's region: that of an Arena's piece, because a block may
// be a guarded one, which lies outside.
func inRegion() uintptr { return addr(hakmem.NewArena().Alloc(16, 16)) }

var (
	global   [64]byte
	function = func() {}
	made     []byte
)

// users are the functions that take a block's pointer. The other functions that free (FreeBytes,
// FreeSlice, Delete, Heap.Free) take the same path; TestMessages covers all of them.
var users = []struct {
	op, prefix string
	call       func(t *trial, p uintptr)
}{
	{"Free", "free-", func(_ *trial, p uintptr) { hakmem.Free(ptr(p)) }},
	{"Realloc", "realloc-", func(t *trial, p uintptr) { hakmem.Realloc(ptr(p), t.size*4+100) }},
	{"UsableSize", "usable-", func(_ *trial, p uintptr) { hakmem.UsableSize(ptr(p)) }},
}

func pointerCases() (cs []*misuseCase) {
	for _, b := range badPointers {
		for _, u := range users {
			why := b.why
			if b.name == "reused" && u.op != "Free" {
				why = always("the block was freed and a new live block starts there now: the pointer is valid")
			}
			cs = append(cs, &misuseCase{
				name: u.prefix + b.name, title: b.title, op: u.op, group: "pointers", sizes: b.sizes, why: why,
				run: func(t *trial) {
					p := b.make(t)
					t.misuse(u.op, func() { u.call(t, p) })
					if b.name == "reused" {
						t.then("Free", func() { free(p) }) // by the new holder
					}
				},
			})
		}
	}
	return cs
}

func freeCases() []*misuseCase {
	return []*misuseCase{
		{name: "free-racing", title: "one block, by two goroutines at the same time", group: "frees", sizes: allSizes, run: racing},
		{name: "free-reused-at-once", title: "a block, twice, with an allocation of its size in between", group: "frees", sizes: allSizes, why: always(whyReused), run: func(t *trial) {
			p := t.malloc()
			free(p)
			q := t.mallocOf(t.size, 'B') // the same block, unless there is a quarantine
			t.misuse("Free", func() { free(p) })
			t.then("Free", func() { free(q) })
		}},
		{name: "free-reused-not-freed", title: "a freed block that was reused since, by a holder that never frees it", group: "frees", sizes: allSizes, why: always(whyReused), unsound: true, run: func(t *trial) {
			p := t.malloc()
			free(p)
			t.reuse(p)
			t.misuse("Free", func() { free(p) })
			t.effect("the holder lost its block")
		}},
	}
}

// racing frees blocks on two goroutines at the same time. Either exactly one free of each pair is
// refused, or both pass and Trim reports the second.
func racing(t *trial) {
	rounds := 3000
	if t.size >= sizes["large"] || guarded() {
		rounds = 300
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	var p uintptr
	var round, done atomic.Int64
	var kinds [2]string
	var texts [2]string
	go func() {
		for i := int64(1); i <= int64(rounds); i++ {
			for spins := 1; round.Load() < i; spins++ {
				if spins%1000 == 0 {
					runtime.Gosched()
				}
			}
			kinds[1], texts[1], _ = report(func() { hakmem.Free(ptr(p)) })
			done.Store(i)
		}
	}()
	var before, after hakmem.Stats
	hakmem.ReadStats(&before)
	atOnce, late, sink := 0, 0, int64(0)
	for i := int64(1); i <= int64(rounds); i++ {
		p = t.malloc()
		round.Store(i)
		for j := range i * 37 % 128 { // a varying delay, so that the two frees overlap now and then
			sink += j
		}
		kinds[0], texts[0], _ = report(func() { hakmem.Free(ptr(p)) })
		for spins := 1; done.Load() < i; spins++ {
			if spins%1000 == 0 {
				runtime.Gosched()
			}
		}
		switch {
		case (kinds[0] == "") != (kinds[1] == ""):
			atOnce++
			t.out.Message = texts[0] + texts[1]
			t.out.Kind = kinds[0] + kinds[1]
		case kinds[0] != "":
			t.out.Outcome, t.out.Message = corrupt, "both frees were refused: "+texts[0]+"; "+texts[1]
			return
		default:
			found := false
			for range 2 { // a front may be busy
				if kind, text, _ := report(hakmem.Trim); kind != "" {
					t.out.Kind, t.out.Message = kind, text
					found = true
				}
			}
			if !found {
				t.out.Outcome, t.out.Message = notCaught, fmt.Sprintf("pair %d of %d", i, rounds)
				return
			}
			late++
		}
	}
	hakmem.ReadStats(&after)
	if before.LiveBlocks != after.LiveBlocks {
		t.out.Outcome, t.out.Message = corrupt, fmt.Sprintf("%d blocks alive, before %d", after.LiveBlocks, before.LiveBlocks)
		return
	}
	// Whether two frees overlap is chance. With hardening or guarding one is always refused.
	if t.out.Outcome = callLater; (hardened() || guarded()) && late == 0 {
		t.out.Outcome = atCall
	}
	t.out.Call = "Free"
	t.out.Message = fmt.Sprintf("%d pairs: %d found at the call, %d by Trim; %s", rounds, atOnce, late, t.out.Message)
}

func boundsCases() (cs []*misuseCase) {
	add := func(name, title string, sizes []string, why reasons, run func(*trial)) {
		cs = append(cs, &misuseCase{name: name, title: title, group: "bounds", sizes: sizes, why: why, run: run})
	}
	for _, n := range []uintptr{1, 8, 32} {
		add(fmt.Sprintf("overflow-%d", n), fmt.Sprintf("write of %d byte%s past the end of a block", n, plural(n)), allSizes, always(whyContents), func(t *trial) {
			_, p, behind := t.row()
			t.misuse("write", func() { change(p+t.size, n) })
			t.then("Free", func() { free(p) })
			t.then("Free of the block behind", func() { free(behind) })
		})
	}
	for _, u := range users[1:] {
		add("overflow-8-"+u.prefix[:len(u.prefix)-1], "write of 8 bytes past the end of a block, then "+u.op, allSizes, always(whyContents), func(t *trial) {
			_, p, _ := t.row()
			t.misuse("write", func() { change(p+t.size, 8) })
			t.then(u.op, func() { u.call(t, p) })
		})
	}
	add("overflow-slack", "write of 1 byte past the 40 asked for, in a block of 48", []string{"tiny"}, always(whySlack), func(t *trial) {
		p := t.mallocOf(40, 'A')
		t.misuse("write", func() { change(p+40, 1) })
		t.then("Free", func() { free(p) })
	})
	add("overflow-far", "write of 1 byte, 80 bytes past the end of a block", allSizes, reasons{"": whyContents, "harden": whyBeyond, "asan": whyHolders}, func(t *trial) {
		_, p, behind := t.row()
		t.misuse("write", func() { change(p+t.size+80, 1) })
		t.then("Free", func() { free(p) })
		t.then("Free of the block behind", func() { free(behind) })
	})
	add("overflow-region", "write far above all blocks, in hakmem's region", noSize, reasons{"race": whyRaceRegion}, func(t *trial) {
		var s hakmem.Stats
		p := inRegion()
		hakmem.ReadStats(&s)
		t.misuse("write", func() { write(p+uintptr(s.Reserved)/2, 1) })
	})
	add("overread-1", "read of 1 byte past the end of a block", allSizes, always(whyReads), func(t *trial) {
		_, p, _ := t.row()
		t.misuse("read", func() { read(p + t.size) })
		t.then("Free", func() { free(p) })
	})
	for _, n := range []uintptr{1, 8, 16} {
		add(fmt.Sprintf("underflow-%d", n), fmt.Sprintf("write of %d byte%s before a block", n, plural(n)), allSizes, reasons{"": whyContents, "harden": whySpanBefore}, func(t *trial) {
			before, p, _ := t.row()
			t.misuse("write", func() { change(p-n, n) })
			t.then("Free", func() { free(p) })
			t.then("Free of the block before", func() { free(before) })
		})
	}
	add("zero-size-read", "read of a block of 0 bytes", noSize, always(whyReads), func(t *trial) {
		p := addr(hakmem.Malloc(0))
		t.misuse("read", func() { read(p) })
		t.then("Free", func() { free(p) })
	})
	add("zero-size-write", "write to a block of 0 bytes", noSize, always(whySlack), func(t *trial) {
		p := addr(hakmem.Malloc(0))
		t.misuse("write", func() { change(p, 1) })
		t.then("Free", func() { free(p) })
	})
	add("slice-index", "b[len(b)] of a slice of Alloc", allSizes, nil, func(t *trial) {
		b := hakmem.Alloc(int(t.size))
		t.misuse("index", func() { b[len(b)] = 1 })
	})
	return cs
}

func plural(n uintptr) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// sees names the byte b that a stale pointer has read.
func (t *trial) sees(b byte) {
	names := map[byte]string{'A': "the old contents", 'B': "the new holder's contents", 0: "zero", 0xDB: "poison"}
	s := names[b]
	if s == "" {
		s = fmt.Sprintf("%#x", b)
	}
	t.effect("reads " + s)
}

func afterFreeCases() (cs []*misuseCase) {
	add := func(name, title string, sizes []string, why reasons, run func(*trial)) {
		cs = append(cs, &misuseCase{name: name, title: title, group: "after", sizes: sizes, why: why, run: run})
	}
	hold := reasons{"": whyContents, "harden": whyHuge}
	add("read-after-free", "read", allSizes, always(whyReads), func(t *trial) {
		p := t.malloc()
		free(p)
		t.misuse("read", func() { t.sees(read(p + t.size/2)) })
	})
	add("read-after-trim", "read, after Trim", allSizes, always(whyReads), func(t *trial) {
		p := t.malloc()
		free(p)
		hakmem.Trim()
		t.misuse("read", func() { t.sees(read(p + t.size/2)) })
	})
	add("read-after-reuse", "read, after the block was reused", allSizes, reasons{"": whyReads, "asan": whyHolders}, func(t *trial) {
		p := t.malloc()
		free(p)
		t.reuse(p)
		t.misuse("read", func() { t.sees(read(p + t.size/2)) })
	})
	add("write-after-free", "write, then Trim", allSizes, hold, func(t *trial) {
		p := t.malloc()
		free(p)
		t.misuse("write", func() { change(p+t.size/2, 1) })
		t.then("Trim", hakmem.Trim)
	})
	add("write-after-free-1st", "write of the first byte, then Trim", allSizes, hold, func(t *trial) {
		p := t.malloc()
		free(p)
		t.misuse("write", func() { change(p, 1) })
		t.then("Trim", hakmem.Trim)
	})
	add("write-after-free-last", "write of the last byte, then Trim", allSizes, hold, func(t *trial) {
		p := t.malloc()
		free(p)
		t.misuse("write", func() { change(p+t.size-1, 1) })
		t.then("Trim", hakmem.Trim)
	})
	add("write-after-free-work", "write, then 2000 blocks allocated and freed by the same Heap", allSizes, hold, func(t *trial) {
		h := hakmem.NewHeap() // a Heap, because which Ps a goroutine runs on is chance
		defer h.Close()
		p := addr(h.Malloc(t.size))
		write(p, 'A')
		h.Free(ptr(p))
		t.misuse("write", func() { change(p+t.size/2, 1) })
		t.then("Heap.Free of another", func() {
			for range 2000 {
				h.Free(h.Malloc(64))
			}
		})
	})
	add("write-after-free-behind", "write past the bytes asked for, then Trim", allSizes, reasons{"": whyContents, "harden": "the poison of a large block covers only the bytes asked for, and the canary of a freed block is not checked again"}, func(t *trial) {
		_, p, _ := t.row()
		free(p)
		t.misuse("write", func() { change(p+t.size, 1) })
		t.then("Trim", hakmem.Trim)
	})
	add("write-after-realloc", "write through the old pointer to a block that Realloc moved, then Trim", []string{"tiny", "mid", "large", "big"}, always(whyContents), func(t *trial) {
		_, p, _ := t.row()
		if q := addr(hakmem.Realloc(ptr(p), t.size*4)); q == p || q == 0 {
			panic("Realloc did not move the block")
		}
		t.misuse("write", func() { change(p+t.size/2, 1) })
		t.then("Trim", hakmem.Trim)
	})
	add("write-after-reuse", "write, after the block was reused", allSizes, always(whyHolder), func(t *trial) {
		p := t.malloc()
		free(p)
		t.reuse(p)
		t.misuse("write", func() { change(p+t.size/2, 1) })
		t.effect("the holder's contents changed")
		t.then("Free", func() { free(p) })
		t.then("Trim", hakmem.Trim)
	})
	add("immediate-reuse", "(the next allocation gets the block that was just freed)", allSizes, nil, func(t *trial) {
		// With one P the goroutine cannot move to another, whose front does not have the block.
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		p := t.malloc()
		free(p)
		t.out.Outcome = lawful
		if t.effect("no"); t.malloc() == p {
			t.effect("yes")
		}
	})
	return cs
}

func sizeCases() (cs []*misuseCase) {
	// call reports whether it got memory.
	add := func(name, title string, why reasons, call func() bool) {
		cs = append(cs, &misuseCase{name: name, title: title, group: "sizes", sizes: noSize, why: why, run: func(t *trial) {
			t.misuse("allocation", func() {
				if !call() {
					panic(refusal("returns nil"))
				}
			})
		}})
	}
	const most = math.MaxUint
	for _, n := range []struct {
		name string
		size uintptr
	}{{"2^64-1", most}, {"2^64-16", most - 15}, {"2^63", 1 << 63}, {"2^60", 1 << 60}} {
		add("malloc-"+n.name, "Malloc("+n.name+")", nil, func() bool { return hakmem.Malloc(n.size) != nil })
	}
	add("heap-malloc-2^64-1", "Heap.Malloc(2^64-1)", nil, func() bool { return hakmem.NewHeap().Malloc(most) != nil })
	add("calloc-overflow", "Calloc(2^32, 2^32+1): the product overflows", nil, func() bool { return hakmem.Calloc(1<<32, 1<<32+1) != nil })
	add("heap-calloc-overflow", "Heap.Calloc, the same", nil, func() bool { return hakmem.NewHeap().Calloc(1<<32, 1<<32+1) != nil })
	add("realloc-2^64-1", "Realloc(p, 2^64-1); p stays valid", nil, func() bool {
		p := hakmem.Malloc(100)
		q := hakmem.Realloc(p, most)
		hakmem.Free(p)
		return q != nil
	})
	add("aligned-2^64-1", "AlignedAlloc(2 MiB, 2^64-1)", nil, func() bool { return hakmem.AlignedAlloc(2<<20, most) != nil })
	add("aligned-bad", "AlignedAlloc(48, 100): not a power of two", nil, func() bool { return hakmem.AlignedAlloc(48, 100) != nil })
	add("aligned-zero", "AlignedAlloc(0, 100)", nil, func() bool { return hakmem.AlignedAlloc(0, 100) != nil })
	add("alloc-negative", "Alloc(-1)", nil, func() bool { return hakmem.Alloc(minusOne) != nil })
	add("alloc-2^62", "Alloc(2^62)", nil, func() bool { return hakmem.Alloc(1<<62) != nil })
	add("slice-overflow", "MakeSlice[uint64](2^62, 2^62): the bytes overflow", nil, func() bool { return hakmem.MakeSlice[uint64](1<<62, 1<<62) != nil })
	add("slice-len", "MakeSlice(2, 1): longer than its capacity", nil, func() bool { return hakmem.MakeSlice[uint64](2, 1) != nil })
	add("arena-2^64-1", "Arena.Alloc(2^64-1, 1)", nil, func() bool { return hakmem.NewArena().Alloc(most, 1) != nil })
	add("arena-second-2^64-1", "Arena.Alloc(2^64-1, 1), when the Arena has a chunk", nil, func() bool {
		a := hakmem.NewArena()
		a.Alloc(100, 16)
		return a.Alloc(most, 1) != nil
	})
	add("arena-align", "Arena.Alloc(8, 3): not a power of two", nil, func() bool { return hakmem.NewArena().Alloc(8, 3) != nil })
	add("site-unknown", "MallocAt of a site that was not registered", nil, func() bool { return hakmem.MallocAt(12345, 100) != nil })
	return cs
}

var minusOne = -1

type pair struct{ a, b uint64 }

type withPointer struct {
	N    int
	Name struct{ Text string }
}

func typedCases() (cs []*misuseCase) {
	add := func(name, title, op string, sizes []string, why reasons, run func(t *trial)) {
		cs = append(cs, &misuseCase{name: name, title: title, group: "typed", sizes: sizes, why: why, run: func(t *trial) {
			t.misuse(op, func() { run(t) })
		}})
	}
	bytes := func(name, title string, sizes []string, why reasons, of func(b []byte) []byte) {
		cs = append(cs, &misuseCase{name: "bytes-" + name, title: "FreeBytes of " + title, group: "typed", sizes: sizes, why: why, run: func(t *trial) {
			b := hakmem.Alloc(int(t.size))
			t.misuse("FreeBytes", func() { hakmem.FreeBytes(of(b)) })
			t.then("FreeBytes", func() { hakmem.FreeBytes(b) })
		}})
	}
	bytes("1", "b[1:]", allSizes, nil, func(b []byte) []byte { return b[1:] })
	bytes("16", "b[16:]", allSizes, nil, func(b []byte) []byte { return b[16:] })
	bytes("half", "b[len(b)/2:]", []string{"mid", "large", "big", "huge"}, nil, func(b []byte) []byte { return b[len(b)/2:] })
	bytes("empty", "b[len(b):]", allSizes, always(whyEmptySlice), func(b []byte) []byte { return b[len(b):] })
	bytes("appended", "append(b, 1), which moved it", allSizes, nil, func(b []byte) []byte { return append(b, 1) })
	bytes("made", "a slice from make", allSizes, nil, func(b []byte) []byte { return make([]byte, len(b)) })
	bytes("literal", "[]byte{}", []string{"tiny"}, nil, func([]byte) []byte { return []byte{} })
	add("slice-8", "FreeSlice of s[1:], elements of 8 bytes", "FreeSlice", noSize, nil, func(t *trial) {
		hakmem.FreeSlice(hakmem.MakeSlice[uint64](100, 100)[1:])
	})
	add("slice-16", "FreeSlice of s[1:], elements of 16 bytes", "FreeSlice", noSize, nil, func(t *trial) {
		hakmem.FreeSlice(hakmem.MakeSlice[pair](100, 100)[1:])
	})
	add("slice-appended", "FreeSlice of append(s, x), which moved it", "FreeSlice", noSize, nil, func(t *trial) {
		hakmem.FreeSlice(append(hakmem.MakeSlice[uint64](100, 100), 1))
	})
	add("delete-field", "Delete of a field's address", "Delete", noSize, nil, func(t *trial) {
		hakmem.Delete(&hakmem.New[pair]().b)
	})
	add("delete-new", "Delete of a pointer from Go's new", "Delete", noSize, nil, func(t *trial) {
		hakmem.Delete(new(pair))
	})
	add("delete-type", "Delete with a type other than New's", "Delete", noSize, always(whyType), func(t *trial) {
		hakmem.Delete((*[4096]byte)(ptr(addr(unsafe.Pointer(hakmem.New[pair]())))))
	})
	add("pointers-new", "New of a struct with a string", "New", noSize, nil, func(t *trial) {
		hakmem.New[withPointer]()
	})
	add("pointers-slice", "MakeSlice of an interface", "MakeSlice", noSize, nil, func(t *trial) {
		hakmem.MakeSlice[any](1, 1)
	})
	add("pointers-arena", "NewIn of an array of maps", "NewIn", noSize, nil, func(t *trial) {
		hakmem.NewIn[[3]map[int]int](hakmem.NewArena())
	})
	add("pointers-arena-slice", "MakeSliceIn of a pointer", "MakeSliceIn", noSize, nil, func(t *trial) {
		hakmem.MakeSliceIn[*int](hakmem.NewArena(), 1, 1)
	})
	add("pointers-cast", "a Go pointer stored by a cast", "write", noSize, always(whyGoPointer), func(t *trial) {
		writeWord(addr(hakmem.Malloc(64)), uint64(addr(unsafe.Pointer(new(pair)))))
		t.effect("the collector may free what it points to")
	})
	return cs
}

func ownerCases() (cs []*misuseCase) {
	add := func(name, title string, sizes []string, why reasons, run func(*trial)) {
		cs = append(cs, &misuseCase{name: name, title: title, group: "owners", sizes: sizes, why: why, run: run})
	}
	closedHeap := func(op string, use func(t *trial, h *hakmem.Heap, p unsafe.Pointer)) {
		name := "heap-closed-" + map[string]string{"Malloc": "malloc", "Free": "free", "Calloc": "calloc", "Realloc": "realloc", "Trim": "trim", "Close": "close"}[op]
		add(name, "Heap."+op+" after Close", []string{"tiny", "mid", "large"}, nil, func(t *trial) {
			h := hakmem.NewHeap()
			p := h.Malloc(t.size)
			h.Free(h.Malloc(t.size)) // so that its magazine is not empty
			h.Close()
			t.misuse("Heap."+op, func() { use(t, h, p) })
		})
	}
	closedHeap("Malloc", func(t *trial, h *hakmem.Heap, p unsafe.Pointer) { h.Malloc(t.size) })
	closedHeap("Free", func(t *trial, h *hakmem.Heap, p unsafe.Pointer) { h.Free(p) })
	closedHeap("Calloc", func(t *trial, h *hakmem.Heap, p unsafe.Pointer) { h.Calloc(1, t.size) })
	closedHeap("Realloc", func(t *trial, h *hakmem.Heap, p unsafe.Pointer) { h.Realloc(p, t.size*4) })
	closedHeap("Trim", func(t *trial, h *hakmem.Heap, p unsafe.Pointer) { h.Trim() })
	closedHeap("Close", func(t *trial, h *hakmem.Heap, p unsafe.Pointer) { h.Close() })
	add("heap-not-made", "Malloc of a Heap that NewHeap did not make", noSize, nil, func(t *trial) {
		t.mallocOf(48, 'A')
		t.misuse("Heap.Malloc", func() { new(hakmem.Heap).Malloc(48) })
	})

	cs = append(cs, &misuseCase{
		name: "heap-copied", title: "Heap.Close of a copy, after the Heap's own", group: "owners", sizes: []string{"tiny", "mid", "large"},
		run: func(t *trial) {
			h := hakmem.NewHeap()
			h.Free(h.Malloc(t.size))
			c := copyOf(h)
			h.Close()
			t.misuse("Heap.Close", c.Close)
			a, b := hakmem.NewHeap(), hakmem.NewHeap()
			p := addr(a.Malloc(t.size))
			a.Free(ptr(p))
			if t.effect("no effect seen"); addr(b.Malloc(t.size)) == p {
				t.effect("two later Heaps share their magazines")
			}
		},
	})

	add("arena-copied", "Arena.Close of a copy, after the Arena's own", noSize, nil, func(t *trial) {
		a := hakmem.NewArena()
		a.Alloc(100, 16)
		c := copyOf(a)
		a.Close()
		t.misuse("Arena.Close", c.Close)
	})

	closedArena := func(name, op string, use func(a *hakmem.Arena)) {
		add(name, op+" after Arena.Close", noSize, nil, func(t *trial) {
			a := hakmem.NewArena()
			a.Alloc(100, 16)
			a.Close()
			t.misuse(op, func() { use(a) })
		})
	}
	closedArena("arena-closed-alloc", "Arena.Alloc", func(a *hakmem.Arena) { a.Alloc(8, 8) })
	closedArena("arena-closed-alloc-0", "Arena.Alloc(0, 1)", func(a *hakmem.Arena) { a.Alloc(0, 1) })
	closedArena("arena-closed-new", "NewIn", func(a *hakmem.Arena) { hakmem.NewIn[pair](a) })
	closedArena("arena-closed-slice", "MakeSliceIn", func(a *hakmem.Arena) { hakmem.MakeSliceIn[pair](a, 1, 1) })
	closedArena("arena-closed-reset", "Arena.Reset", func(a *hakmem.Arena) { a.Reset() })
	closedArena("arena-closed-close", "Arena.Close", func(a *hakmem.Arena) { a.Close() })

	add("arena-write-after-reset-idle", "write to an Arena's memory after Reset", allSizes, always(whyArena), func(t *trial) {
		a := hakmem.NewArena()
		p := addr(a.Alloc(t.size, 16))
		a.Reset()
		t.misuse("write", func() { change(p, 1) })
		t.then("Arena.Close", a.Close)
	})
	add("arena-write-after-reset", "the same, after the memory was handed out again", allSizes, reasons{"": whyArena, "asan": whyPieceAgain}, func(t *trial) {
		a := hakmem.NewArena()
		p := addr(a.Alloc(t.size, 16))
		a.Reset()
		q := addr(a.Alloc(t.size, 16))
		write(q, 'B')
		t.misuse("write", func() { change(p, 1) })
		if t.effect("nobody's contents changed"); read(q) != 'B' {
			t.effect("the next holder's contents changed")
		}
		t.then("Arena.Close", a.Close)
	})
	add("arena-write-after-close", "write to an Arena's memory after Close", allSizes, reasons{"": whyContents, "harden": whyArenaClose}, func(t *trial) {
		a := hakmem.NewArena()
		p := addr(a.Alloc(t.size, 16))
		a.Close()
		t.misuse("write", func() { change(p, 1) })
		t.then("Trim", hakmem.Trim)
	})
	add("arena-read-after-close", "read of an Arena's memory after Close", allSizes, always(whyReads), func(t *trial) {
		a := hakmem.NewArena()
		p := addr(a.Alloc(t.size, 16))
		a.Close()
		t.misuse("read", func() { read(p) })
	})
	add("arena-overflow-8", "write of 8 bytes past the end of a piece of an Arena", allSizes, always(whyArena), func(t *trial) {
		a := hakmem.NewArena()
		p := addr(a.Alloc(t.size, 16))
		a.Alloc(t.size, 16) // so that there is memory after it
		t.misuse("write", func() { change(p+t.size, 8) })
		t.then("Arena.Close", a.Close)
	})
	cs = append(cs, &misuseCase{
		name: "heap-shared", title: "one Heap used by two goroutines at once", group: "owners", sizes: []string{"tiny", "mid", "large"}, why: always(whyHeap), unsound: true, chance: true, run: sharedHeap,
	})
	return cs
}

// copyOf copies a handle that must not be copied; go vet does not look into a type
// parameter.
func copyOf[T any](h *T) *T {
	c := new(T)
	*c = *h
	return c
}
