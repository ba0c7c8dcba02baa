package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit/smaps"
	"golang.org/x/sys/unix"
)

// withHugePages makes the engine believe, for the test, that the system makes huge pages of all
// memory, or whatever mode says.
func withHugePages(t *testing.T, mode string) {
	t.Helper()
	if osmem.HugePageSize() == 0 {
		t.Skip("skipped: the system has no huge pages")
	}
	if tracked {
		t.Skip("skipped: -race; blocks lie in the Go heap, of whose mappings Go decides")
	}
	setMode := func(mode func() string) {
		scavenger.mu.Lock()
		defer scavenger.mu.Unlock()
		hugePageMode = mode
		hugePages.known, hugePages.come, hugePages.pause, hugePages.look = false, false, 0, 0
	}
	setMode(func() string { return mode })
	t.Cleanup(func() {
		Trim()
		setMode(osmem.HugePageMode)
	})
}

// flagsOf returns the flags that the kernel shows for the mapping of an address.
func flagsOf(t *testing.T, a mem.Addr) []string {
	t.Helper()
	m, found, err := smaps.At(a)
	if err != nil || !found || m.Flags == nil {
		t.Skip("skipped: no flags in /proc/self/smaps: ", err)
	}
	return m.Flags
}

// regionMappings returns the number of mappings of the committed pages for blocks.
func regionMappings(t *testing.T) (n int) {
	t.Helper()
	list, err := smaps.Read()
	if err != nil {
		t.Skip("skipped: no /proc: ", err)
	}
	for _, m := range list {
		if m.From < region.endChunk().addr() && m.To > region.firstChunk().addr() {
			n++
		}
	}
	return n
}

// advised returns the chunks of the blocks that have the advice, and the chunks without it.
func advised(blocks []Block) (with, without []chunkNo) {
	for _, p := range blocks {
		c := p.page().chunk()
		if super(c).smallPages {
			with = append(with, c)
		} else {
			without = append(without, c)
		}
	}
	return slices.Compact(with), slices.Compact(without)
}

// regionResident returns how much of the committed pages for blocks is resident.
func regionResident(t *testing.T) mem.Bytes {
	t.Helper()
	from := region.firstChunk().addr()
	return mem.Bytes(residentBytes(t, from, region.endChunk().addr().From(from)))
}

// thin frees all blocks except each n-th, and returns those.
func thin(t *testing.T, blocks []Block, n int) (kept []Block) {
	t.Helper()
	var rest []Block
	for i, p := range blocks {
		if i%n == 0 {
			kept = append(kept, p)
		} else {
			rest = append(rest, p)
		}
	}
	freeBlocks(t, rest)
	return kept
}

// TestAdviceAgainstHugePages: chunks from which memory is returned in part have the advice, as the
// kernel sees it, until they are wholly free and returned. Then all of the region is one mapping.
func TestAdviceAgainstHugePages(t *testing.T) {
	if !smaps.TakesAdvice() {
		t.Skip("skipped: an emulator, which takes advice and does nothing")
	}
	for _, size := range []mem.Bytes{4096, 20000, 64 << 10, 700_000} {
		withHugePages(t, "always")
		c := withClock(t)
		Trim()
		mappings := regionMappings(t)
		kept := thin(t, fillBytes(t, 64*mebibyte, size), 17)
		if with, _ := advised(kept); len(with) != 0 {
			t.Errorf("%d bytes: chunks %v have the advice before anything was returned", size, with)
		}
		c.Advance(5 * time.Second)
		for _, p := range kept {
			for i := mem.Bytes(0); i < size; i += 4096 {
				if *u8(p.addr().Add(i)) != 1 {
					t.Fatalf("%d bytes: the block at %#x has lost its contents", size, p)
				}
			}
		}
		with, without := advised(kept)
		if len(without) > len(with)/4 {
			t.Errorf("%d bytes: chunks %v have the advice, %v not", size, with, without)
		}
		for _, c := range with[:1] {
			if flags := flagsOf(t, c.addr()); !slices.Contains(flags, "nh") {
				t.Errorf("%d bytes: a chunk with the advice has the flags %v", size, flags)
			}
		}
		mustHold(t)
		freeBlocks(t, kept)
		Trim()
		mustHold(t)
		for _, c := range with {
			if s := super(c); s.free.whole() && (s.smallPages || s.sparse) {
				t.Errorf("%d bytes: the free chunk %d has the advice: %t, and is SPARSE: %t", size, c, s.smallPages, s.sparse)
			} else if flags := flagsOf(t, c.addr()); s.free.whole() && slices.Contains(flags, "nh") {
				t.Fatalf("%d bytes: a free chunk has the flags %v", size, flags)
			}
		}
		if n := regionMappings(t); n > mappings+hugePages.boundaries+2 {
			t.Errorf("%d bytes: the committed pages are %d mappings, %d before, with %d boundaries", size, n, mappings, hugePages.boundaries)
		}
	}
}

// TestWholeChunksNeedNoAdvice: chunks that are returned as a whole are returned without system calls for
// advice.
func TestWholeChunksNeedNoAdvice(t *testing.T) {
	withHugePages(t, "always")
	withClock(t)
	blocks := fillBytes(t, 128*mebibyte, 64<<10)
	calls := osmem.Calls(osmem.OpAdvise)
	freeBlocks(t, blocks)
	Trim()
	if n := osmem.Calls(osmem.OpAdvise) - calls; n > 2 { // for chunks at the ends that others use
		t.Errorf("%d calls for advice", n)
	}
}

// TestNoAdviceUnasked: where huge pages do not come by themselves, there is no advice. When they
// begin to come, the next return gives it to all chunks that need it.
func TestNoAdviceUnasked(t *testing.T) {
	withHugePages(t, "madvise")
	c := withClock(t)
	was := hugePages.boundaries
	kept := thin(t, fillBytes(t, 64*mebibyte, 4096), 17)
	more := fillBytes(t, 4*mebibyte, 100_000)
	c.Advance(5 * time.Second)
	if with, _ := advised(kept); len(with) != 0 || hugePages.boundaries != was {
		t.Errorf("chunks %v have the advice, and there are %d boundaries", with, hugePages.boundaries)
	}
	hugePageMode = func() string { return "always" }
	freeBlocks(t, more)
	c.Advance(5 * time.Second)
	if with, without := advised(kept); len(without) > len(with)/4 {
		t.Errorf("when huge pages come: chunks %v have the advice, %v not", with, without)
	}
	freeBlocks(t, kept)
}

// TestTooManyBoundaries: beyond the bound all of the region has the advice, and is one mapping.
func TestTooManyBoundaries(t *testing.T) {
	withHugePages(t, "always")
	withClock(t)
	defer func(was int) { maxBoundaries = was }(maxBoundaries)
	maxBoundaries = 5
	most := 0
	var kept []Block
	for range 12 { // a chunk that is in use in part, and one that is in use as a whole
		kept = append(kept, fillBytes(t, 2*mebibyte, mebibyte)...)
		kept = append(kept, fillBytes(t, 2*mebibyte, 2*mebibyte)...)
	}
	for i, p := range kept {
		if super(p.page().chunk()).free.whole() || i%3 != 0 {
			continue
		}
		freeBlocks(t, kept[i:i+1])
		kept[i] = 0
		Trim()
		most = max(most, hugePages.boundaries)
		mustHold(t)
	}
	if most > 2*maxBoundaries {
		t.Errorf("there were up to %d boundaries", most)
	}
	if _, without := advised(slices.DeleteFunc(slices.Clone(kept), func(p Block) bool { return p == 0 })); len(without) > 0 {
		t.Errorf("chunks %v have no advice", without)
	}
	if n := regionMappings(t); n > 2*maxBoundaries {
		t.Errorf("the committed pages are %d mappings", n)
	}
	maxBoundaries = mostBoundaries
	freeBlocks(t, slices.DeleteFunc(kept, func(p Block) bool { return p == 0 }))
}

// TestAdviceRefused: without the advice memory is returned all the same, and the refused call is not
// made again soon.
func TestAdviceRefused(t *testing.T) {
	withHugePages(t, "always")
	c := withClock(t)
	defer osmem.Inject(nil)
	calls := 0
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpAdvise {
			calls++
			return osmem.ErrInjected
		}
		return nil
	})
	for range 20 {
		kept := thin(t, fillBytes(t, 16*mebibyte, 100_000), 7)
		c.Advance(5 * time.Second)
		freeBlocks(t, kept)
		c.Advance(5 * time.Second)
	}
	Trim()
	if _, dirty := use(); dirty > 0 {
		t.Errorf("%d pages are dirty", dirty)
	}
	if calls == 0 || calls > 10 {
		t.Errorf("%d calls in 200 seconds, want some that become fewer", calls)
	}
	if !slices.ContainsFunc(Survived(), func(err error) bool { return errors.Is(err, osmem.ErrInjected) }) {
		t.Error("nothing was reported")
	}
}

// TestNoMappingLeft: if the process has no mapping left for a boundary, all of the region gets the
// advice, which needs none.
func TestNoMappingLeft(t *testing.T) {
	withHugePages(t, "always")
	withClock(t)
	defer osmem.Inject(nil)
	kept := fillBytes(t, 32*mebibyte, 128<<10)
	calls := 0
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpAdvise {
			if calls++; calls == 1 {
				return fmt.Errorf("%w: %w", osmem.ErrInjected, syscall.ENOMEM)
			}
		}
		return nil
	})
	kept = thin(t, kept, 9)
	Trim()
	if _, without := advised(kept); len(without) > 0 || calls != 2 {
		t.Errorf("chunks %v have no advice after %d calls, want 2", without, calls)
	}
	if n := regionMappings(t); n > 3 {
		t.Errorf("the committed pages are %d mappings", n)
	}
	mustHold(t)
	freeBlocks(t, kept)
}

// TestRenewRefused: chunks that cannot be renewed keep their advice and can be used. If their
// addresses are lost, they come back with the next Trim.
func TestRenewRefused(t *testing.T) {
	for _, refusal := range []error{osmem.ErrInjected, fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)} {
		withHugePages(t, "always")
		withClock(t)
		kept := thin(t, fillBytes(t, 32*mebibyte, 700_000), 5)
		Trim()
		with, _ := advised(kept)
		freeBlocks(t, kept)
		failed := 0
		osmem.Inject(func(op osmem.Op) error {
			if op == osmem.OpDiscard || op == osmem.OpCommit {
				if calledBy("renew") || failed > 0 && op == osmem.OpCommit {
					failed++
					return refusal
				}
			}
			return nil
		})
		Trim()
		osmem.Inject(nil)
		if failed == 0 || len(with) == 0 {
			t.Errorf("%v: chunks %v had the advice, and %d calls failed", refusal, with, failed)
		}
		mustHold(t)
		Trim()
		if lost, _ := lostPages(); lost != 0 {
			t.Errorf("%v: %d pages are out of use", refusal, lost)
		}
		freeBlocks(t, fillBytes(t, 64*mebibyte, 40_000)) // all of it may be touched
	}
}

// TestFilledAgain: memory that became resident behind the engine's back is found by Trim, and
// returned.
func TestFilledAgain(t *testing.T) {
	needsLook(t)
	withHugePages(t, "madvise")
	withClock(t)
	kept := append(thin(t, fillBytes(t, 32*mebibyte, 2000), 100), thin(t, fillBytes(t, 32*mebibyte, 128<<10), 9)...)
	Trim()
	before := regionResident(t)
	// As khugepaged does it: pages of zeroes where there were none. A byte that is there stays.
	for a := region.firstChunk().addr(); a < region.endChunk().addr(); a += mem.Addr(osmem.PageSize()) {
		touch(u8(a))
	}
	after, was := regionResident(t), hugePages.filled
	if after < before+16*mebibyte {
		t.Fatalf("%d KiB resident, %d when filled: the test shows nothing", before>>10, after>>10)
	}
	Trim()
	again, filled := regionResident(t), mem.Bytes(hugePages.filled-was)
	if again > before+mebibyte {
		t.Errorf("%d KiB resident after Trim, %d before they were filled again", again>>10, before>>10)
	}
	if want := after - before; filled < want-mebibyte || filled > want+want/8+mebibyte {
		t.Errorf("%d KiB were found of %d", filled>>10, want>>10)
	}
	if _, dirty := use(); dirty != 0 {
		t.Errorf("%d pages are dirty", dirty)
	}
	freeBlocks(t, kept)
}

// TestLooksAfterAChange: when huge pages begin to come, ordinary ticks find what they filled.
func TestLooksAfterAChange(t *testing.T) {
	needsLook(t)
	withHugePages(t, "madvise")
	c := withClock(t)
	kept := thin(t, fillBytes(t, 32*mebibyte, 128<<10), 9)
	Trim()
	before := regionResident(t)
	for a := region.firstChunk().addr(); a < region.endChunk().addr(); a += mem.Addr(osmem.PageSize()) {
		touch(u8(a))
	}
	hugePageMode = func() string { return "always" }
	c.Advance(2 * time.Second)
	freeBlocks(t, fillBytes(t, 16*mebibyte, 100_000)) // something to return, so that the mode is read
	c.Advance(time.Minute)
	if n := regionResident(t); n > before+mebibyte {
		t.Errorf("%d KiB resident, %d before they were filled", n>>10, before>>10)
	}
	if c.Pending() != 0 {
		t.Error("the timer does not stop")
	}
	freeBlocks(t, kept)
}

// TestHugePagesWhileUsed: goroutines allocate and free while everything is trimmed all the time and the
// kernel makes every huge page that it may. No block loses its contents.
func TestHugePagesWhileUsed(t *testing.T) {
	withHugePages(t, "always")
	clock := withClock(t)
	var wg sync.WaitGroup
	for g := range uint64(3) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 11))
			sizes := []mem.Bytes{16, 200, 1504, 9216, 40 << 10, 40 << 10, 128 << 10, 700_000}
			slots := make([]struct {
				p    Block
				size mem.Bytes
			}, 150)
			for i := range 60_000 {
				s := &slots[r.IntN(len(slots))]
				if s.p != 0 {
					if !marked(s.p, s.size, g) {
						t.Errorf("the block of %d bytes at %#x has lost its contents", s.size, s.p)
						return
					}
					if bad := Free(0, s.p); bad.Kind != OK {
						t.Error(bad)
						return
					}
					s.p = 0
				}
				if i%2000 < 1200 {
					s.size = sizes[r.IntN(len(sizes))]
					s.p = Malloc(0, s.size)
					mark(s.p, s.size, g)
				}
			}
			for _, s := range slots {
				if s.p != 0 {
					Free(0, s.p)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	r := rand.New(rand.NewPCG(3, 11))
	was := hugePages.filled
	made, trims, advice := 0, 0, osmem.Calls(osmem.OpAdvise)
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for range 8 {
			const collapse = 25                             // MADV_COLLAPSE, since Linux 6.1
			c := region.firstChunk() + chunkNo(r.IntN(100)) // committed or not
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(c.addr()), superSize, collapse); errno == 0 {
				made++
			}
		}
		if trims++; trims%3 == 0 { // so that there are chunks without advice to fill
			mode := []string{"madvise", "always"}[trims/3%2]
			scavenger.mu.Lock()
			hugePageMode = func() string { return mode }
			scavenger.mu.Unlock()
			clock.Skip(2 * time.Second)
		}
		Trim()
	}
	t.Logf("%d huge pages made, %d Trims, %d MiB found, %d calls for advice", made, trims, (hugePages.filled-was)/mebibyte, osmem.Calls(osmem.OpAdvise)-advice)
	mustHold(t)
}

// touch writes what is there, which makes the OS page resident.
func touch(p *uint8) { atomic.AndUint32((*uint32)(unsafe.Pointer(p)), ^uint32(0)) }

// calledBy reports whether the engine's function of that name is among the callers.
func calledBy(name string) bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "/engine."+name) {
			return true
		}
		if !more {
			return false
		}
	}
}
