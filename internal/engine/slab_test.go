package engine

import (
	"bytes"
	"math/bits"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// TestEmptySlabsChangeClass: when all blocks of one class are freed, another class of the same slab
// size uses the pages, and no new superslab is made.
func TestEmptySlabsChangeClass(t *testing.T) {
	f := heapFront(t)
	const bytes = 64 << 20
	fill := func(size mem.Bytes) {
		var all []Block
		for n := mem.Bytes(0); n < bytes; n += size {
			p := Malloc(f, size)
			if p == 0 {
				t.Fatal(Survived())
			}
			all = append(all, p)
		}
		for _, p := range all {
			Free(f, p)
		}
	}
	fill(512)
	before, used := superslabs.Load(), region.committed.Load()
	for _, size := range []mem.Bytes{960, 128, 2000, 32768} {
		fill(size)
		// A few slabs of each class stay leased or partly in magazines.
		if n := superslabs.Load(); n > before+before/4+2 || region.committed.Load() > used+used/4 {
			t.Errorf("after %d-byte blocks: %d superslabs, %d at first; %d bytes committed, %d at first",
				size, n, before, region.committed.Load(), used)
		}
	}
}

// TestHintOfNewSlabStays: a goroutine found that a page is no slab, and takes the page's hint away
// after the page has become an EMPTY slab. That slab can still be found.
func TestHintOfNewSlabStays(t *testing.T) {
	if !Ready() {
		t.Fatal(Survived())
	}
	c := sizeclass.Of(512)
	s := acquireSlab(commonList(c))
	for !s.allFree(&sizeclass.Classes[c]) { // one of another test's
		defer retire(s)
		s = acquireSlab(commonList(c))
	}
	retire(s)
	unmarkNone(s) // by a goroutine that looked before that
	if !isMarkedEmpty(s.page()) {
		t.Error("the hint of an EMPTY slab is gone")
	}
	if _, ok := claimEmpty(s, 0); !ok {
		t.Fatal("the EMPTY slab cannot be claimed")
	}
	giveBackPages(s.page(), 0, 0, residentUnit)
	markEmpty(s.page()) // late, by the goroutine that gave the last block back
	if _, ok := claimEmpty(s, 0); ok || isMarkedEmpty(s.page()) {
		t.Error("the hint of a page that is no slab stays")
	}
}

// TestLiveBlockOfAnEmptySlab: a block was freed twice at once, and one copy was handed out before
// the other came back. The block's slab is not taken from the block's holder.
func TestLiveBlockOfAnEmptySlab(t *testing.T) {
	for _, size := range []mem.Bytes{16, 64, 1000, 3000, 32 << 10} {
		withClock(t)
		c := sizeclass.Of(size)
		k := &sizeclass.Classes[c]
		s := acquireSlab(commonList(c))
		if !s.allFree(k) {
			t.Fatalf("%d B: a slab in use", size)
		}
		s.forgetHoles(0) // all its blocks were handed out once
		for _, j := range []uint32{0, k.Blocks / 2, k.Blocks - 1} {
			retire(s)
			p := s.block(c, blockIndex(j))
			setLive(p, c, liveState(c)) // its holder
			if s.units() > 0 {
				s.meta().setHoles(s.holes(c)) // its memory was returned before that
				uncount(s.bytesOf(s.holes(c)))
			}
			before := lateFrees.Load()
			if _, ok := claimEmpty(s, 0); ok {
				t.Fatalf("%d B: the slab of a live block was claimed", size)
			}
			if n, late := lateFrees.Load()-before, TakeFinding(); n != 1 || late.Addr != p.addr() || late.Kind != LateFreed {
				t.Errorf("%d B: block %d: %d counted, reported %+v", size, j, n, late)
			}
			if b := atomic.LoadUint64(s.bits(j / 64)); b>>(j%64)&1 != 0 {
				t.Errorf("%d B: block %d is the slab's and its holder's", size, j)
			}
			if err := CheckInvariants(); err != nil {
				t.Errorf("%d B: block %d: %v", size, j, err)
			}
			if bad := Free(0, p); bad.Kind != OK {
				t.Errorf("%d B: block %d: its holder's free: %+v", size, j, bad)
			}
			drainAll()
			order, ok := claimEmpty(s, 0)
			if !ok {
				t.Fatalf("%d B: block %d: the slab is not EMPTY when it is freed", size, j)
			}
			giveBackPages(s.page(), order, 0, s.unitBytes())
			if s = acquireSlab(commonList(c)); !s.allFree(k) {
				t.Fatalf("%d B: a slab in use", size)
			}
			s.forgetHoles(0)
		}
		retire(s)
		mustHold(t)
	}
}

// TestRetireMeetsFree: a slab's lease ends while its first block comes back, after retire has begun
// and before it has the lock. retire looks at the words last, so the slab is listed afterwards.
func TestRetireMeetsFree(t *testing.T) {
	if !Ready() {
		t.Fatal(Survived())
	}
	const size = 1024
	c := sizeclass.Of(size)
	s, ls := acquireSlab(commonList(c)), &lists[c]
	all := atomic.SwapUint64(s.bits(0), 0) // all blocks are ours, and the right to take them
	p := s.block(c, blockIndex(bits.TrailingZeros64(all)))
	ls.mu.Lock()
	done := make(chan bool)
	go func() { retire(s); close(done) }()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		if text := stacks[:runtime.Stack(stacks, true)]; slices.ContainsFunc(bytes.Split(text, []byte("\n\n")), func(one []byte) bool {
			return bytes.Contains(one, []byte("engine.retire(")) && bytes.Contains(one, []byte("[sync.Mutex.Lock"))
		}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("retire does not wait for the lock:\n%s", stacks)
		}
	}
	flush([]Block{p}, c)
	ls.mu.Unlock()
	<-done
	if state := s.meta().slabState.Load(); state != slabPartial {
		t.Errorf("a slab with a free block is in state %d, want PARTIAL", state)
	}
	ls.mu.Lock()
	unlist(commonList(c), s.page(), slabLeased)
	ls.mu.Unlock()
	atomic.StoreUint64(s.bits(0), all)
	retire(s)
}

// TestHintsAtOnce: a slab becomes EMPTY while the hint of its superslab is dropped, which
// had none before: the hint is there afterwards.
func TestHintsAtOnce(t *testing.T) {
	if !Ready() {
		t.Fatal(Survived())
	}
	region.mu.Lock()
	c := min(chunkNo(region.size>>superShift), chunkNo(tree.leaves)) - 1 // nobody else's
	region.mu.Unlock()
	if c.addr() < region.base.Add(mem.Bytes(region.committed.Load())) {
		t.Fatal("the region's last chunk is in use")
	}
	var looks atomic.Uint64
	var ended atomic.Bool
	stopped := make(chan bool)
	go func() {
		defer close(stopped)
		for i := 0; !ended.Load(); i++ {
			dropHint(c)
			looks.Add(1)
			if i%64 == 0 { // for machines with one processor
				runtime.Gosched()
			}
		}
	}()
	lookedAgain := func() { // one look has ended that had begun before, and another
		for n := looks.Load(); looks.Load() < n+2; {
			runtime.Gosched()
		}
	}
	lost := 0
	for range 100_000 {
		markEmpty(c.page())
		lookedAgain()
		if atomic.LoadUint64(hintWord(c))>>(c%64)&1 == 0 {
			lost++
		}
		unmarkEmpty(c.page())
		lookedAgain()
	}
	ended.Store(true)
	<-stopped
	dropHint(c)
	if lost > 0 {
		t.Errorf("the hint of a superslab with an EMPTY slab was lost %d times", lost)
	}
	if atomic.LoadUint64(hintWord(c))>>(c%64)&1 != 0 {
		t.Error("the hint of a superslab without EMPTY slabs stays")
	}
}
