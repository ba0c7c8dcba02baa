package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// refuseRanges makes the system refuse to take back any range that touches one of those given, for
// the time of the test. It returns a function that counts refusals so far.
func refuseRanges(t *testing.T, bad ...osmem.Range) (refusals func() int) {
	t.Helper()
	n := 0
	osmem.InjectRanges(func(r osmem.Range) error {
		for _, b := range bad {
			if r.Addr < b.Addr.Add(b.Size) && b.Addr < r.Addr.Add(r.Size) {
				n++
				return osmem.ErrInjected
			}
		}
		return nil
	})
	t.Cleanup(func() {
		osmem.InjectRanges(nil)
		Trim()
	})
	return func() int { return n }
}

// TestNarrow: whatever is refused of a range, everything around it goes back, each OS page that is
// refused is named once, and the calls are bounded.
func TestNarrow(t *testing.T) {
	withClock(t)
	page := osmem.PageSize()
	const size = 8 * mebibyte
	p := Malloc(0, size)
	defer freeBlocks(t, []Block{p})
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		var bad []osmem.Range
		want := map[mem.Addr]bool{}
		for range r.IntN(4) {
			n := 1 + r.IntN(16)
			at := mem.Bytes(r.IntN(int(size/page) - n))
			bad = append(bad, osmem.Range{Addr: p.addr().Add(at * page), Size: mem.Bytes(n) * page})
			for i := range mem.Bytes(n) {
				want[p.addr().Add((at+i)*page)] = true
			}
		}
		for i := mem.Bytes(0); i < size; i += page {
			*u8(p.addr().Add(i)) = 1
		}
		refuseRanges(t, bad...)
		refillNarrowing()
		got, parts := map[mem.Addr]bool{}, 0
		usable := returnMemory(p.addr(), size, func(r osmem.Range) {
			parts++
			for i := mem.Bytes(0); i < r.Size; i += page {
				if got[r.Addr.Add(i)] {
					t.Fatalf("%#x is refused twice", r.Addr.Add(i))
				}
				got[r.Addr.Add(i)] = true
			}
		})
		if !usable || len(got) != len(want) || parts > len(bad) {
			t.Fatalf("%v refused: %d pages in %d parts, want %d; usable: %v", bad, len(got), parts, len(want), usable)
		}
		for i := mem.Bytes(0); i < size; i += page {
			if a := p.addr().Add(i); want[a] != got[a] || want[a] != (*u8(a) == 1) {
				t.Fatalf("%v refused: at %#x refused %v, want %v, and it reads %d", bad, a, got[a], want[a], *u8(a))
			}
		}
		osmem.InjectRanges(nil)
	}
	// Where all is refused, the calls are used up, and every page is still reported.
	refusals := refuseRanges(t, osmem.Range{Addr: p.addr(), Size: size})
	refillNarrowing()
	all := mem.Bytes(0)
	returnMemory(p.addr(), size, func(r osmem.Range) { all += r.Size })
	returnMemory(p.addr(), size, func(r osmem.Range) { all += r.Size })
	if n := refusals(); all != 2*size || n > narrowCalls+2 {
		t.Errorf("all refused: %d bytes reported of 2 x %d, %d calls", all, uint64(size), n)
	}
}

// TestRefusedPages: pages that the system refuses to take are left alone for longer and longer times.
// Everything around them goes back, the timer stops, and Err names them once. Trim tries again.
func TestRefusedPages(t *testing.T) {
	needsLook(t)
	for _, size := range []mem.Bytes{64 << 10, 300 << 10, 5 * mebibyte} {
		c := withClock(t)
		forgetSurvived(t)
		blocks := fillBytes(t, 32*mebibyte, size)
		bad := osmem.Range{Addr: blocks[len(blocks)/2].addr(), Size: 64 << 10}
		refusals := refuseRanges(t, bad)
		freeBlocks(t, blocks)
		c.Advance(30 * time.Second)
		if _, dirty := use(); dirty != 1 {
			t.Errorf("%d bytes: %d pages are dirty, want the one that is refused", size, dirty)
		}
		for _, p := range blocks {
			want := 0
			if p.addr() == bad.Addr {
				want = int(bad.Size)
			}
			if n := residentBytes(t, p.addr(), size); n != want {
				t.Errorf("%d bytes: %d bytes of the block at %#x are resident, want %d", size, n, p, want)
			}
		}
		if n := c.Pending(); n != 0 || scavenger.armed.Load() {
			t.Errorf("%d bytes: %d timers are set for a page that is refused", size, n)
		}
		mustHold(t)
		text := fmt.Sprint(Survived())
		if where := fmt.Sprintf("%d bytes at %#x", uint64(bad.Size), bad.Addr); len(Survived()) != 1 || !strings.Contains(text, where) {
			t.Errorf("%d bytes: reported %s, want once, and %s", size, text, where)
		}
		// Other work goes on for a quarter of an hour, in which the page is tried again eight times.
		first := refusals()
		const tries = 9
		for range 900 {
			freeBlocks(t, fillBytes(t, mebibyte, 100<<10))
			c.Advance(time.Second)
		}
		if n := refusals() - first; n > tries*70 || n < 3 {
			t.Errorf("%d bytes: %d refusals at first, %d more in a quarter of an hour", size, first, n)
		}
		// A page that is in use again is no other.
		freeBlocks(t, fillBytes(t, 32*mebibyte, size))
		mustHold(t)
		c.Advance(time.Minute)
		if n := c.Pending(); n != 0 {
			t.Errorf("%d bytes: %d timers are set", size, n)
		}
		before := refusals()
		Trim()
		if _, dirty := use(); dirty != 1 || refusals() == before {
			t.Errorf("%d bytes: %d pages are dirty after Trim, %d refusals", size, dirty, refusals()-before)
		}
		osmem.InjectRanges(nil)
		Trim()
		if _, dirty := use(); dirty != 0 || pageUse.refused != 0 {
			t.Errorf("%d bytes: %d pages are dirty, and %d refused, when nothing is refused any more", size, dirty, pageUse.refused)
		}
	}
}

// TestRefusedHole: the same for the memory of free blocks in slabs.
func TestRefusedHole(t *testing.T) {
	needsLook(t)
	if osmem.PageSize() != 4096 {
		t.Skipf("skipped: holes are of whole system pages, and these have %d bytes, not 4096", osmem.PageSize())
	}
	c := withClock(t)
	forgetSurvived(t)
	const size = 4096
	blocks := fillBytes(t, 16*mebibyte, size)
	var live, rest []Block
	for i, p := range blocks {
		if i%16 == 0 {
			live = append(live, p)
			mark(p, size, uint64(p))
		} else {
			rest = append(rest, p)
		}
	}
	// More than a tick finds worth the call, once it is not refused any more.
	bad := osmem.Range{Addr: mem.Addr(mem.Bytes(blocks[len(blocks)/2+3]).Down(size)), Size: 8 * size}
	refusals := refuseRanges(t, bad)
	freeBlocks(t, rest)
	c.Advance(10 * time.Second)
	if n := refusals(); n == 0 || n > 40 {
		t.Fatalf("%d refusals", n)
	}
	resident := 0
	for _, p := range rest {
		resident += residentBytes(t, mem.Addr(mem.Bytes(p).Down(size)), size)
	}
	// A slab's blocks are not all whole OS pages of its own.
	if most := len(live) * 2 * size; resident > most {
		t.Errorf("%d bytes of %d free ones are resident, want at most %d", resident, len(rest)*size, most)
	}
	if c.Pending() != 0 {
		t.Error("the timer does not stop")
	}
	mustHold(t)
	if n := len(Survived()); n != 1 {
		t.Errorf("reported %d times: %v", n, Survived())
	}
	first := refusals()
	for range 600 {
		freeBlocks(t, fillBytes(t, mebibyte, 100<<10))
		c.Advance(time.Second)
	}
	if n := refusals() - first; n > 12*40 {
		t.Errorf("%d refusals at first, %d more in ten minutes", first, n)
	}
	Trim()
	for _, p := range live {
		if !marked(p, size, uint64(p)) {
			t.Fatalf("the block at %#x has lost its contents", p)
		}
	}
	osmem.InjectRanges(nil)
	Trim()
	if n := residentBytes(t, bad.Addr, bad.Size); n > size {
		t.Errorf("%d bytes are resident when nothing is refused any more", n)
	}
	freeBlocks(t, live)
}

// TestTickFindsTheLockHeld: a tick that finds another at work does not wait. The other sets the timer
// in its place, once, unless the clock has been replaced.
func TestTickFindsTheLockHeld(t *testing.T) {
	c := withClock(t)
	advance := func(d time.Duration) { // as timers do, on another goroutine
		done := make(chan bool)
		go func() {
			defer close(done)
			c.Advance(d)
		}()
		<-done
	}
	freeBlocks(t, fillBytes(t, 4*mebibyte, 100_000))
	if n := c.Pending(); n != 1 {
		t.Fatalf("%d timers", n)
	}
	if !scavenger.lock() {
		t.Fatal("the lock is held")
	}
	advance(time.Hour)
	if n := c.Pending(); n != 0 || !scavenger.armed.Load() {
		t.Errorf("%d timers while another is at work, armed: %v", n, scavenger.armed.Load())
	}
	scavenger.unlock()
	if n := c.Pending(); n != 1 {
		t.Errorf("%d timers when it has ended", n)
	}
	c.Advance(time.Minute)
	if _, dirty := use(); dirty != 0 || c.Pending() != 0 {
		t.Errorf("%d pages are dirty, %d timers", dirty, c.Pending())
	}

	freeBlocks(t, fillBytes(t, 4*mebibyte, 100_000))
	if !scavenger.lock() {
		t.Fatal("the lock is held")
	}
	advance(time.Second)
	scavenger.mu.Unlock() // as unlock does first
	SetClock(c)
	kick()
	scavenger.payOwed()
	if n := c.Pending(); n != 1 {
		t.Errorf("%d timers when the clock was replaced meanwhile", n)
	}
}

// TestAskedOnce: work that is to be done soon is asked for once, however often the heap grows while
// somebody has the lock.
func TestAskedOnce(t *testing.T) {
	c := withClock(t)
	ask := func(n int) {
		region.mu.Lock()
		defer region.mu.Unlock()
		for range n {
			scavenger.grownTo = 0
			scavenger.grown(1 << 40)
		}
	}
	ask(100)
	if n := c.Pending(); n != 1 {
		t.Errorf("%d calls are to be made soon, want 1", n)
	}
	c.Advance(0)
	ask(1)
	if n := c.Pending(); n != 1 {
		t.Errorf("%d calls are to be made soon after the first one, want 1", n)
	}
	c.Advance(time.Minute)
}

// TestRefusedTellsOnce: many refusals of one kind leave room for errors of other kinds.
func TestRefusedTellsOnce(t *testing.T) {
	forgetSurvived(t)
	other := errors.New("another kind")
	for i := range mem.Addr(100) {
		tellRefused(osmem.Range{Addr: i << 16, Size: 4096}, osmem.ErrInjected)
	}
	tellRefused(osmem.Range{Addr: 1 << 30, Size: 4096}, other)
	if errs := Survived(); len(errs) != 2 || !strings.Contains(errs[0].Error(), "4096 bytes at 0x0") || !errors.Is(errs[1], other) {
		t.Errorf("reported: %v", errs)
	}
}
