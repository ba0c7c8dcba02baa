package heap

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// lostPages returns the pages that are out of use because their memory may not be
// touched, and how many of them were returned before their live map was lost.
func lostPages() (lost, clean int) {
	region.mu.Lock()
	defer region.mu.Unlock()
	for c := region.first >> superShift; c < region.committed.Load()>>superShift; c++ {
		lost += bits.OnesCount32(super(c).lost)
		clean += bits.OnesCount32(super(c).lost &^ super(c).dirty)
	}
	return lost, clean
}

// TestLostPagesComeBack: from the n-th discard on each leaves its memory without
// any, and no commit gives it back: the pages are out of use. When the system has
// memory again the next Trim has them back, also when no other page is warm.
func TestLostPagesComeBack(t *testing.T) {
	withClock(t)
	defer osmem.Inject(nil)
	total, totalClean := 0, 0
	for n := 1; n <= 8; n++ {
		freeBlocks(t, append(fillBytes(t, 4*mebibyte, 48), fillBytes(t, 4*mebibyte, 5000)...))
		discards := 0
		osmem.Inject(func(op osmem.Op) error {
			if op == osmem.OpDiscard {
				discards++
			}
			switch {
			case discards < n:
				return nil
			case op == osmem.OpDiscard:
				return fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)
			case op == osmem.OpCommit:
				return osmem.ErrInjected
			}
			return nil
		})
		Trim()
		lost, clean := lostPages()
		total, totalClean = total+lost, totalClean+clean
		osmem.Inject(nil)
		Trim()
		if lost, _ := lostPages(); lost != 0 || len(punchLost) != 0 {
			t.Errorf("discard %d refused: %d pages and %d slabs stay out of use", n, lost, len(punchLost))
		}
		if used, warm := use(); warm != 0 {
			t.Errorf("discard %d refused: %d pages warm after Trim, %d used", n, warm, used)
		}
		if anyLost.Load() {
			t.Errorf("discard %d refused: the scavenger's timer would be set for ever", n)
		}
	}
	if total == 0 || totalClean == 0 {
		t.Errorf("%d pages were lost, of %d only the live map: want some of both", total, totalClean)
	}
	freeBlocks(t, fillBytes(t, 32*mebibyte, 40_000)) // all of it may be touched
}

// TestSurvivedOnce: what reads the same is one error, so that a storm of one kind
// leaves place for another.
func TestSurvivedOnce(t *testing.T) {
	forgetSurvived(t)
	first := errors.New("first")
	for range 1000 {
		survive(fmt.Errorf("again: %w", first))
	}
	other := errors.New("other")
	survive(other)
	if got := Survived(); len(got) != 2 || !errors.Is(got[0], first) || !slices.Contains(got, other) {
		t.Errorf("survived: %v", got)
	}
	for i := range 100 {
		survive(fmt.Errorf("error %d", i))
	}
	if got := Survived(); len(got) != maxSurvived || got[1] != other {
		t.Errorf("%d errors survived, want %d with the first ones first: %v", len(got), maxSurvived, got)
	}
}

// forgetSurvived lets the test see only errors that survive from now on.
func forgetSurvived(t *testing.T) {
	t.Helper()
	before := Survived()
	replace := func(errs []error) {
		survived.Lock()
		survived.errs = errs
		survived.Unlock()
	}
	t.Cleanup(func() { replace(before) })
	replace(nil)
}

// told reports whether an error that survived has the text.
func told(text string) bool {
	return slices.ContainsFunc(Survived(), func(err error) bool { return strings.Contains(err.Error(), text) })
}

// TestSmallerCommit: where the system refuses a large step it is asked for what is
// needed, and the refusal is told.
func TestSmallerCommit(t *testing.T) {
	withClock(t)
	defer osmem.Inject(nil)
	region.mu.Lock()
	old, step := region.committed.Load(), region.step
	region.step = 64 * mebibyte
	refused := false
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpCommit && !refused {
			refused = true
			return osmem.ErrInjected
		}
		return nil
	})
	err := grow(3 * mebibyte)
	region.step = step
	grown := region.committed.Load() - old
	region.mu.Unlock()
	if err != nil || !refused || grown != 4*mebibyte {
		t.Errorf("grow = %v, refused %v: %d bytes more, want 4 MiB", err, refused, grown)
	}
	if !told("trying") {
		t.Errorf("the refusal is not told: %v", Survived())
	}
}

// TestNoMoreFronts: when Heaps have their part of the fronts another cannot be made,
// Err tells why, one that is closed makes place for another, and each P gets a front.
func TestNoMoreFronts(t *testing.T) {
	for _, x := range []struct{ ps, left int }{{3, NumShards}, {100, 100}, {200, 110}} {
		t.Run(fmt.Sprint(x.ps), func(t *testing.T) {
			withClock(t) // Ps' fronts are in the pool
			forgetSurvived(t)
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(x.ps))
			frontPool.mu.Lock()
			if used := int(frontPool.built.Load()) - len(frontPool.free); used != 0 {
				t.Errorf("%d fronts are in use", used)
			}
			defer set(&frontPool.max, 220)()
			frontPool.mu.Unlock()

			var fronts []uintptr
			defer func() {
				for _, f := range fronts {
					CloseHeapFront(f)
				}
			}()
			for f := NewHeapFront(); f != 0; f = NewHeapFront() {
				fronts = append(fronts, f)
			}
			if n := len(fronts); n != 220-x.left || !told("Close Heaps") {
				t.Errorf("%d Heaps of 220 fronts, want %d to be left; %v", n, x.left, Survived())
			}
			CloseHeapFront(fronts[0])
			if fronts[0] = NewHeapFront(); fronts[0] == 0 {
				t.Fatal("a closed Heap's front was not used again")
			}
			for i := range x.left {
				f := newFront(false)
				if f == 0 {
					t.Fatalf("no front for the one after %d", i)
				}
				fronts = append(fronts, f)
			}
			if f := newFront(false); f != 0 {
				t.Error("one front more than there are")
			}
		})
	}
}

// TestNoMoreSites: beyond the most sites there are a name gives none, and known names
// their site.
func TestNoMoreSites(t *testing.T) {
	known := RegisterSite("known")
	sites.mu.Lock()
	names := sites.names
	sites.names = make([]string, MaxSites)
	sites.mu.Unlock()
	none, again := RegisterSite("one too many"), RegisterSite("known")
	sites.mu.Lock()
	sites.names = names
	sites.mu.Unlock()
	if none != 0 || again != known || known == 0 {
		t.Errorf("the site beyond the last is %d, a known one %d, was %d", none, again, known)
	}
}

// TestLostTimer: a timer that never comes, as one that was set in a bubble of
// testing/synctest, is set again when the heap grows.
func TestLostTimer(t *testing.T) {
	c := withClock(t)
	freeBlocks(t, fillBytes(t, 4*mebibyte, 100_000))
	if !scavenger.armed.Load() || c.Pending() == 0 {
		t.Fatal("no timer after 4 MiB were freed")
	}
	c.Lose()
	lookAt := func(after time.Duration) int {
		c.Advance(after)
		region.mu.Lock()
		kickGrown(0)
		region.mu.Unlock()
		return c.Pending()
	}
	if n := lookAt(lostTicks * tickTime() / 2); n != 0 {
		t.Errorf("%d timers, though the first may still come", n)
	}
	if n := lookAt(lostTicks * tickTime()); n != 1 {
		t.Errorf("%d timers after the first was lost, want another", n)
	}
	c.Advance(time.Minute)
	if _, warm := use(); warm != 0 || scavenger.armed.Load() {
		t.Errorf("a minute later %d pages are warm", warm)
	}
}

// TestResizeRefused: a span that cannot grow for want of a commit stays what it is,
// and can when there is memory again.
func TestResizeRefused(t *testing.T) {
	withClock(t)
	defer osmem.Inject(nil)
	p := Malloc(0, 100<<10)
	*u8(p + 100<<10 - 1) = 7
	usable, _, _ := Size(p)
	more := region.committed.Load() - (p - region.base) + 64*mebibyte // beyond what is committed
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpCommit {
			return osmem.ErrInjected
		}
		return nil
	})
	used, _ := use()
	if Resize(p, more) {
		t.Error("a span grew without a commit")
	}
	if n, _, bad := Size(p); n != usable || bad.Kind != OK || *u8(p + 100<<10 - 1) != 7 {
		t.Errorf("after a Resize that failed: %d bytes, %+v, want %d", n, bad, usable)
	}
	if now, _ := use(); now != used {
		t.Errorf("after a Resize that failed: %d pages in use, before %d", now, used)
	}
	osmem.Inject(nil)
	if !Resize(p, more) || *u8(p + 100<<10 - 1) != 7 {
		t.Error("the span cannot grow, with memory again")
	}
	freeBlocks(t, []uintptr{p})
}

// TestResizeAtTheLimit: a span cannot grow beyond the hard limit, and can when what is
// cached makes room for it.
func TestResizeAtTheLimit(t *testing.T) {
	withClock(t)
	other := Malloc(0, 4*mebibyte)
	p := Malloc(0, 100<<10) // behind it the region is free
	*u8(p + 100<<10 - 1) = 7
	usable, _, _ := Size(p)
	used, _ := use()
	if err := SetMemoryLimit(0, uint64(used)<<pageShift); err != nil {
		t.Fatal(err)
	}
	defer SetMemoryLimit(0, 0)
	for range 3 {
		was := limitHit.Load()
		if Resize(p, mebibyte) || limitHit.Load() == was {
			t.Error("a span grew beyond the limit")
		}
		if n, _, bad := Size(p); n != usable || bad.Kind != OK {
			t.Errorf("after a Resize that failed: %d bytes, %+v, want %d", n, bad, usable)
		}
	}
	freeBlocks(t, []uintptr{other}) // into a cache
	if n, _ := use(); n != used {
		t.Fatalf("%d pages in use, want %d: nothing to reclaim", n, used)
	}
	was := limitHit.Load()
	if !Resize(p, mebibyte) || limitHit.Load() == was || *u8(p + 100<<10 - 1) != 7 {
		t.Error("the span cannot grow, with memory for it in a cache")
	}
	freeBlocks(t, []uintptr{p})
}

// TestFreeWithoutAFront: a P that has no front and can get none frees all the same:
// the block goes straight to its slab, from which it comes again.
func TestFreeWithoutAFront(t *testing.T) {
	withClock(t)
	blocks := fillBytes(t, mebibyte, 48)
	Trim() // the P's front goes to the pool
	frontPool.mu.Lock()
	most, pool := frontPool.max, frontPool.free
	frontPool.max, frontPool.free = frontPool.built.Load(), nil
	frontPool.mu.Unlock()
	if p := Malloc(0, 48); p != 0 {
		t.Errorf("Malloc = %#x without a front", p)
	}
	freeBlocks(t, blocks)
	if bad := Free(0, blocks[0]); bad.Kind != Freed {
		t.Errorf("a second free: %+v", bad)
	}
	frontPool.mu.Lock()
	frontPool.max, frontPool.free = most, pool
	frontPool.mu.Unlock()
	Trim()
	if used, warm := use(); used != 0 || warm != 0 {
		t.Errorf("all freed, trimmed: %d pages used, %d warm", used, warm)
	}
	freeBlocks(t, fillBytes(t, mebibyte, 48))
}

// TestFreedLongAgo: a free of a block whose slab was given back and serves nothing
// now says that it was freed; of an address inside one, that there is none. (A span's
// first page stands for the span.)
func TestFreedLongAgo(t *testing.T) {
	withClock(t)
	for _, size := range []uintptr{48, 1000, 3000, 32 << 10, 100 << 10} {
		blocks := fillBytes(t, 4*mebibyte, size)
		freeBlocks(t, blocks)
		Trim()
		for _, p := range []uintptr{blocks[0], blocks[len(blocks)/2]} {
			if bad := Free(0, p); bad.Kind != Freed || bad.Addr != p {
				t.Errorf("%d bytes: a second free after Trim: %+v", size, bad)
			}
			if _, _, bad := Size(p); bad.Kind != Freed {
				t.Errorf("%d bytes: the size after Trim: %+v", size, bad)
			}
			if bad := Free(0, p+16); bad.Kind == OK || bad.Kind == Freed && size <= sizeclass.MaxMid {
				t.Errorf("%d bytes: a free inside, after Trim: %+v", size, bad)
			}
		}
	}
}
