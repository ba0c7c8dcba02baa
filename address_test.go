package hakmem_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of Owns, Pointer and ExplainAddress: what they say of each kind of block, live and freed, and of every
// other address, with every setting that places blocks elsewhere.

// eachWay runs a case with the settings with which blocks are made in different ways. Detectors take long, and
// see nothing more in hardened blocks; with -asan each block is one.
func eachWay(t *testing.T, name string) {
	t.Helper()
	ways := [][]string{{}, {"HAKMEM_GUARD=1"}, {"HAKMEM_HARDEN=1"}, {"HAKMEM_GUARD=1", "HAKMEM_HARDEN=1"}}
	if detected {
		ways = ways[:2]
	}
	for _, settings := range ways {
		testkit.InChild(t, name, "", settings...)
	}
}

// detected says that a detector watches this program, so that everything takes about ten times as long.
const detected = testkit.Race || asan.On

func TestOwns(t *testing.T) { eachWay(t, "owns") }

func TestExplainAddress(t *testing.T) { eachWay(t, "explain address") }

// addressSizes has some sizes of each kind of block: tiny, mid, large, huge in one chunk more or less.
var addressSizes = []uintptr{0, 1, 16, 100, 1024, 1025, 5000, 32 << 10, 32<<10 + 1, 100_000, 2 << 20, 3 << 20, 9<<20 + 5}

var _ = testkit.Child("owns", ownsAddresses)

func ownsAddresses(string) error {
	var onStack [64]byte
	onHeap := make([]byte, 64)
	foreign := map[string]unsafe.Pointer{
		"nil":                          nil,
		"the stack":                    unsafe.Pointer(&onStack[7]),
		"Go's heap":                    unsafe.Pointer(&onHeap[7]),
		"a variable":                   unsafe.Pointer(&sinkByte),
		"text":                         unsafe.Pointer(unsafe.StringData("text")),
		"address 1":                    testkit.Wild(nil, 1),
		"2^60":                         testkit.Wild(nil, 1<<60),
		"the end of the address space": testkit.Wild(nil, uintptr(math.MaxUint)),
	}
	notForeign := func() error {
		for what, p := range foreign {
			if hakmem.Owns(p) {
				return fmt.Errorf("Owns(%s)", what)
			}
			if !hakmem.Foreign(p) {
				return fmt.Errorf("Foreign(%s) is false", what)
			}
			if text := hakmem.ExplainAddress(uintptr(p)); !strings.Contains(text, "not in memory that hakmem hands out") {
				return fmt.Errorf("ExplainAddress(%s): %s", what, text)
			}
			if p == nil {
				if hakmem.Pointer(0) != nil {
					return errors.New("Pointer(0) is not nil")
				}
				continue
			}
			if m, instead := workout.MisuseOf(func() { hakmem.Pointer(uintptr(p)) }); m == nil || m.Op != "Pointer" || m.Kind != "not hakmem's" || m.Addr != uintptr(p) {
				return fmt.Errorf("Pointer(%s): %s %+v", what, instead, m)
			}
		}
		return nil
	}
	if err := notForeign(); err != nil {
		return fmt.Errorf("before the first allocation: %w", err)
	}
	h := hakmem.NewHeap()
	site := hakmem.RegisterSite("owns")
	for name, malloc := range map[string]func(uintptr) unsafe.Pointer{
		"Malloc":         hakmem.Malloc,
		"MallocAt":       func(n uintptr) unsafe.Pointer { return hakmem.MallocAt(site, n) },
		"Heap.Malloc":    h.Malloc,
		"AlignedAlloc":   func(n uintptr) unsafe.Pointer { return hakmem.AlignedAlloc(8192, n) },
		"AlignedCalloc":  func(n uintptr) unsafe.Pointer { return hakmem.AlignedCalloc(1<<20, n) },
		"Realloc larger": func(n uintptr) unsafe.Pointer { return hakmem.Realloc(hakmem.Malloc(n/2), n) },
	} {
		for _, size := range addressSizes {
			p := malloc(size)
			n := max(hakmem.UsableSize(p), 1)
			offsets := []uintptr{0, n / 3, n / 2, n - 1}
			for at := uintptr(64 << 10); at < n; at += 256 << 10 {
				offsets = append(offsets, at)
			}
			for _, off := range offsets {
				q := unsafe.Add(p, off)
				if !hakmem.Owns(q) || hakmem.Foreign(q) || hakmem.Pointer(uintptr(q)) != q {
					return fmt.Errorf("%s of %d bytes at %p: byte %d is not owned: %s", name, size, p, off, hakmem.ExplainAddress(uintptr(q)))
				}
			}
			hakmem.Free(p)
			for _, off := range offsets {
				q := testkit.Wild(p, off)
				m, instead := workout.MisuseOf(func() { hakmem.Pointer(uintptr(q)) })
				if hakmem.Owns(q) || hakmem.Foreign(q) || m == nil || m.Addr != uintptr(q) || m.Op != "Pointer" {
					return fmt.Errorf("%s of %d bytes at %p, freed: byte %d is owned, or Pointer does not say so: %s %+v", name, size, p, off, instead, m)
				}
			}
		}
	}
	h.Close()
	for _, size := range []uintptr{100, 100_000, 5 << 20} {
		a := hakmem.NewArena()
		p := a.Alloc(size, 8)
		a.Alloc(10, 8)
		for _, off := range []uintptr{0, 1, size / 2, size - 1} {
			if !hakmem.Owns(unsafe.Add(p, off)) {
				return fmt.Errorf("byte %d of an Arena's %d is not owned", off, size)
			}
		}
		a.Close()
		if hakmem.Foreign(p) || hakmem.Owns(p) || hakmem.Owns(testkit.Wild(p, size-1)) {
			return fmt.Errorf("the %d bytes of a closed Arena are owned", size)
		}
	}
	if p := testkit.Wild(nil, engine.Base); hakmem.Owns(p) || hakmem.Foreign(p) {
		return errors.New("hakmem's own tables are owned, or foreign")
	}
	if err := notForeign(); err != nil {
		return err
	}
	return ownsWhatTheWalkFinds()
}

// ownsWhatTheWalkFinds compares Owns with LiveBlocks at random addresses near blocks, after a program that has
// freed half of its blocks.
func ownsWhatTheWalkFinds() error {
	r := rand.New(rand.NewPCG(1, 2))
	var blocks []unsafe.Pointer
	n := 2000
	if detected {
		n = 400
	}
	for range n {
		blocks = append(blocks, hakmem.Malloc(testkit.RandomSize(r)))
	}
	r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	for _, p := range blocks[:n/2] {
		hakmem.Free(p)
	}
	var live []hakmem.LiveBlock
	for b := range hakmem.LiveBlocks() {
		live = append(live, b)
	}
	owned := 0
	for i := range 25 * n {
		at := uintptr(blocks[r.IntN(len(blocks))]) + uintptr(r.IntN(300_000)) - 1000
		if i%2 == 0 {
			at = uintptr(blocks[r.IntN(len(blocks))]) + uintptr(r.IntN(200)) - 100
		}
		next, begins := slices.BinarySearchFunc(live, at, func(b hakmem.LiveBlock, a uintptr) int { return int(b.Addr) - int(a) })
		in := begins || next > 0 && at < live[next-1].Addr+live[next-1].Size
		if is := hakmem.Owns(testkit.Wild(nil, at)); is != in {
			return fmt.Errorf("Owns(%#x) is %v; in a block of LiveBlocks: %v; %s", at, is, in, hakmem.ExplainAddress(at))
		}
		if text := hakmem.ExplainAddress(at); strings.Contains(text, "which is live") != in {
			return fmt.Errorf("in a live block: %v, and yet: %s", in, text)
		}
		if in {
			owned++
		}
	}
	if owned < 2*n || owned > 23*n {
		return fmt.Errorf("%d of %d addresses are owned: too few, or too many, to show anything", owned, 25*n)
	}
	for _, p := range blocks[n/2:] {
		hakmem.Free(p)
	}
	return nothingLeft()
}

// nothingLeft is workout.NothingLost, without its normal work in programs that a detector watches.
func nothingLeft() error {
	if !detected {
		return workout.NothingLost()
	}
	if s := workout.ReadStats(); s.LiveBlocks != 0 || s.Guard.Live != 0 {
		return fmt.Errorf("all freed: %d live blocks, %d guarded ones", s.LiveBlocks, s.Guard.Live)
	}
	return hakmem.CheckInvariants()
}

//go:noinline
func allocateExplained(site hakmem.Site, size uintptr) unsafe.Pointer {
	return hakmem.MallocAt(site, size)
}

var _ = testkit.Child("explain address", explainAddresses)

func explainAddresses(string) error {
	guarded := engine.GuardRate() == 1
	site := hakmem.RegisterSite("explained")
	says := func(what string, p unsafe.Pointer, off int, words ...string) error {
		addr := uintptr(testkit.Wild(p, off))
		text := hakmem.ExplainAddress(addr)
		for _, w := range append(words, fmt.Sprintf("hakmem: address %#x: ", addr)) {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%s, byte %d: %q lacks %q", what, off, text, w)
			}
		}
		if strings.Contains(text, "\n") {
			return fmt.Errorf("%s: %q has more than a line", what, text)
		}
		return nil
	}
	for _, size := range []uintptr{100, 3000, 70_000, 3 << 20} {
		p := allocateExplained(site, size)
		block, where := fmt.Sprintf("at %#x", uintptr(p)), ""
		if guarded {
			block, where = fmt.Sprintf("a guarded block of %d bytes at %#x", size, uintptr(p)), "allocated at address_test.go:"
		}
		for _, off := range []int{0, 1, int(size) / 2, int(size) - 1} {
			if err := says("a live block", p, off, fmt.Sprintf("byte %d of ", off), block, "which is live", `site "explained"`, where); err != nil {
				return err
			}
		}
		if guarded {
			page := os.Getpagesize()
			far := int((uintptr(p)+size+uintptr(page)-1)&^uintptr(page-1)-uintptr(p)) + page/4
			if err := says("a guard page", p, far, fmt.Sprintf("byte %d, behind the end of ", far), block, where); err != nil {
				return err
			}
			before := -int(uintptr(p)%uintptr(page)) - 1
			if err := says("a guard page", p, before, fmt.Sprintf("byte %d, before ", before), block, where); err != nil {
				return err
			}
		}
		hakmem.Free(p)
		freed := "which is not allocated: it was freed"
		if guarded {
			freed = "which was freed"
		}
		for _, off := range []int{0, 1, int(size) - 1} {
			text := hakmem.ExplainAddress(uintptr(testkit.Wild(p, off)))
			if strings.Contains(text, "which is live") {
				return fmt.Errorf("a freed block: %s", text)
			}
			if size > 2<<20 && off > 0 && !guarded {
				continue // the pages of a huge block behind the first do not say whose they were
			}
			if err := says("a freed block", p, off, fmt.Sprintf("byte %d of ", off), freed, where); err != nil {
				return err
			}
		}
		if !guarded {
			hakmem.Trim()
			if text := hakmem.ExplainAddress(uintptr(p)); !strings.Contains(text, "its memory went back to the system") {
				return fmt.Errorf("a block of %d bytes, freed, trimmed: %s", size, text)
			}
		}
	}
	a := hakmem.NewArena()
	p := a.Alloc(1000, 8)
	if err := says("an Arena", p, 10, "byte 10 of a chunk of an Arena of ", "which is live"); err != nil {
		return err
	}
	a.Close()
	if err := says("a closed Arena", p, 0, "of a chunk of an Arena", "which was closed"); err != nil {
		return err
	}
	if err := says("the live map", testkit.Wild(nil, engine.Base), 5, "in hakmem's own tables"); err != nil {
		return err
	}
	return says("the end of the region", testkit.Wild(nil, engine.Base), int(engine.Granules)*16+100, "in the part of hakmem's region that has not been used")
}

// TestExplainAddressOfStacks: while stacks are recorded, the line says where a block was allocated.
func TestExplainAddressOfStacks(t *testing.T) {
	engine.StartRecording()
	defer engine.StopRecording()
	p := allocateExplained(0, 100)
	defer hakmem.Free(p)
	if text := hakmem.ExplainAddress(uintptr(p) + 5); !strings.Contains(text, "byte 5 of") || !strings.Contains(text, "allocated at address_test.go:") {
		t.Error(text)
	}
}

// TestExplainForeignFault: a goroutine that CatchFaults knows nothing of touches a freed block, recovers, and asks
// what the address is.
func TestExplainForeignFault(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; the sanitizer ends the process where a fault would be recovered")
	}
	testkit.InChild(t, "foreign fault", "", "HAKMEM_GUARD=1")
}

var _ = testkit.Child("foreign fault", foreignFault)

func foreignFault(string) error {
	p := allocateExplained(0, 200)
	freeGuarded(p)
	said := make(chan string)
	go func() {
		debug.SetPanicOnFault(true)
		defer func() {
			fault, ok := recover().(interface{ Addr() uintptr })
			if !ok {
				said <- "no fault"
				return
			}
			said <- hakmem.ExplainAddress(fault.Addr())
		}()
		sinkByte = *(*byte)(testkit.Wild(p, 30))
	}()
	text := <-said
	for _, w := range []string{fmt.Sprintf("%#x", uintptr(p)+30), "byte 30 of a guarded block of 200 bytes", "which was freed", "allocated at address_test.go:", "freed at guard_test.go:"} {
		if !strings.Contains(text, w) {
			return fmt.Errorf("%q lacks %q", text, w)
		}
	}
	return nil
}

// TestOwnsWhileOthersWork asks for addresses of blocks that other goroutines allocate and free. The answer may be
// either; nothing may fault. A block that this goroutine holds is always owned.
func TestOwnsWhileOthersWork(t *testing.T) {
	seen := make(chan uintptr, 1000)
	done := make(chan error)
	go func() {
		defer close(seen)
		done <- workout.Together(2, func(g uint64) error {
			r := rand.New(rand.NewPCG(g, 3))
			for range 20_000 {
				p := hakmem.Malloc(testkit.RandomSize(r))
				select {
				case seen <- uintptr(p):
				default:
				}
				hakmem.Free(p)
			}
			return nil
		})
	}()
	mine := hakmem.Malloc(50)
	defer hakmem.Free(mine)
	n := 0
	go func() { // what is left in the channel when they are done
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for p := range seen {
		for _, off := range []uintptr{0, 1, 5000, 70_000} {
			hakmem.Owns(testkit.Wild(nil, p+off))
			engine.Look(mem.Addr(p + off))
		}
		if !hakmem.Owns(mine) {
			t.Fatal("a live block is not owned")
		}
		n++
	}
	if n == 0 {
		t.Error("no address was seen")
	}
}
