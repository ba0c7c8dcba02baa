package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit/smaps"
)

// TestTouchResident: all of a block is resident before it is touched, and nothing behind it. With huge
// pages its whole chunks have the advice against further ones, as the kernel sees it, until they are free
// and returned.
func TestTouchResident(t *testing.T) {
	needsLook(t)
	if !smaps.TakesAdvice() {
		t.Skip("skipped: an emulator, which takes advice and does nothing")
	}
	populates(t)
	if region.huge || tracked {
		t.Skip("skipped: the system makes huge pages by itself, or the Go heap has the blocks")
	}
	if policy.AtStart().THP == policy.THPNever {
		t.Skip("skipped: HAKMEM_THP=never, so that all chunks have advice from the beginning")
	}
	first := Malloc(0, 64<<10) // so that no block begins with a chunk
	defer Free(0, first)
	for _, size := range []mem.Bytes{64 << 10, 64<<10 + 1, 200_000, 2 * mebibyte, 2*mebibyte + 1, 4 * mebibyte, 9*mebibyte + 70_000, mostTouched} {
		for _, value := range []policy.Touch{policy.TouchPopulate, policy.TouchHuge} {
			t.Run(fmt.Sprintf("%d bytes, %d", size, value), func(t *testing.T) {
				if value == policy.TouchHuge {
					withHugePages(t, "madvise")
				}
				withTouch(t, value)
				boundaries := hugePages.boundaries
				bytes, huge, books := touched.bytes.Load(), touched.hugeBytes.Load(), counted.Load()
				p := Malloc(0, size)
				usable := meta(p.page()).largeSize
				whole := wholeChunks(p, usable)
				if n := residentBytes(t, mem.Addr(p), usable); mem.Bytes(n) != usable.Up(osmem.PageSize()) {
					t.Errorf("%d of %d bytes are resident", n, usable)
				}
				if rest := pagesOf(usable).bytes() - usable.Up(osmem.PageSize()); rest > 0 && size <= 2*mebibyte {
					if n := residentBytes(t, mem.Addr(p).Add(usable.Up(osmem.PageSize())), rest); n != 0 {
						t.Errorf("%d bytes behind the block are resident", n)
					}
				}
				if n := counted.Load() - books; n < int64(usable) {
					t.Errorf("%d bytes count for the limits, of %d", n, usable)
				}
				if n := touched.bytes.Load() - bytes; n != uint64(usable) {
					t.Errorf("%d bytes are counted as brought, of %d", n, usable)
				}
				want := uint64(0)
				if value == policy.TouchHuge {
					want = uint64(whole.to-whole.from) << superShift
				}
				if n := touched.hugeBytes.Load() - huge; n != want {
					t.Errorf("%d bytes are counted as huge, want %d", n, want)
				}
				for c := whole.from; c < whole.to; c++ {
					is := value == policy.TouchHuge
					if super(c).smallPages != is || slices.Contains(flagsOf(t, c.addr()), "nh") != is || slices.Contains(flagsOf(t, c.addr()), "hg") {
						t.Errorf("chunk %d: the books say %t of advice, the flags are %v", c, super(c).smallPages, flagsOf(t, c.addr()))
					}
				}
				mustHold(t)
				freeBlocks(t, []Block{p})
				Trim()
				if n := residentBytes(t, mem.Addr(p), usable); n != 0 {
					t.Errorf("%d bytes are resident after the free", n)
				}
				if n := hugePages.boundaries; n != boundaries {
					t.Errorf("%d chunks differ from the next one by their advice, before it was %d", n, boundaries)
				}
				for c := whole.from; c < whole.to; c++ {
					if slices.Contains(flagsOf(t, c.addr()), "nh") {
						t.Errorf("chunk %d still has advice", c)
					}
				}
			})
		}
	}
}

// TestTouchHugeBounds: near the bound on mappings, and where the system has no huge pages, blocks get small
// pages.
func TestTouchHugeBounds(t *testing.T) {
	populates(t)
	if tracked {
		t.Skip("skipped: the Go heap has the blocks")
	}
	hugeBytes := func(t *testing.T) uint64 {
		t.Helper()
		before, all := touched.hugeBytes.Load(), touched.bytes.Load()
		freeBlocks(t, []Block{Malloc(0, 6*mebibyte)})
		Trim()
		if touched.bytes.Load() == all {
			t.Error("no memory came")
		}
		return touched.hugeBytes.Load() - before
	}
	withHugePages(t, "madvise")
	withTouch(t, policy.TouchHuge)
	if region.huge || hugeBytes(t) == 0 {
		t.Skip("skipped: no huge pages can be asked for")
	}
	t.Run("mappings", func(t *testing.T) {
		defer set(&maxBoundaries, hugePages.boundaries+1)()
		if n := hugeBytes(t); n != 0 {
			t.Errorf("%d bytes with too many mappings", n)
		}
	})
	if hugeBytes(t) == 0 {
		t.Error("none when there is room again")
	}
	t.Run("mode", func(t *testing.T) {
		withHugePagesOff(t)
		forgetTouch()
		if n := hugeBytes(t); n != 0 {
			t.Errorf("%d bytes where the system has no huge pages", n)
		}
	})
}

// TestTouchKeepsAdvice: if the advice against further huge pages is refused, that is reported, no other
// block gets huge pages, and the scavenger gives the advice when it returns memory of the chunk.
func TestTouchKeepsAdvice(t *testing.T) {
	populates(t)
	if region.huge || tracked {
		t.Skip("skipped: the system makes huge pages by itself, or the Go heap has the blocks")
	}
	withHugePages(t, "madvise")
	c := withTouch(t, policy.TouchHuge)
	forgetSurvived(t)
	t.Cleanup(func() { hugePages.asked.Store(false) })
	calls := 0
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpAdvise {
			if calls++; calls == 2 {
				return osmem.ErrInjected
			}
		}
		return nil
	})
	p := Malloc(0, 8*mebibyte)
	osmem.Inject(nil)
	if calls != 2 || !reported("advice against huge pages") {
		t.Fatalf("%d calls, errors %v", calls, Survived())
	}
	before := touched.hugeBlocks.Load()
	q := Malloc(0, 8*mebibyte)
	if touched.hugeBlocks.Load() != before {
		t.Error("another block gets huge pages")
	}
	chunk := wholeChunks(p, 8*mebibyte).from
	if super(chunk).smallPages {
		t.Error("the books say that the chunk has the advice")
	}
	if !Resize(p, mem.Bytes(chunk.addr().From(mem.Addr(p)))+64<<10, KeepAll) { // a page of the chunk is left
		t.Fatal("the block does not shrink")
	}
	c.Skip(2 * modeAge * 1e6)
	Trim()
	if !super(chunk).smallPages || slices.Contains(flagsOf(t, chunk.addr()), "hg") {
		t.Errorf("after the return of a part of it the chunk has no advice: %v", flagsOf(t, chunk.addr()))
	}
	mustHold(t)
	freeBlocks(t, []Block{p, q})
}

// TestTouchMeasured prints what the arms cost here, by the real clock, for a program that uses all of its
// blocks and for one that uses a tenth.
func TestTouchMeasured(t *testing.T) {
	needsLook(t)
	populates(t)
	if !maySample || region.huge || tracked {
		t.Skip("skipped: this build plays no arms")
	}
	for _, every := range []mem.Bytes{1, 10} {
		withTouch(t, policy.TouchAuto)
		SetClock(nil)
		for _, size := range []mem.Bytes{64 << 10, mebibyte, 6 * mebibyte} {
			for range 150 {
				p := Malloc(0, size)
				write(p, size, every)
				freeBlocks(t, []Block{p})
				Trim()
			}
			cell := Learnt().Touch.Groups[touchGroup(size)]
			if cell.Bandit == nil || cell.Looks == 0 {
				t.Fatalf("%d bytes: nothing is learnt: %+v", size, cell)
			}
			for arm, a := range cell.Bandit.Arms {
				t.Logf("%d bytes, %.3f used, %v: %.2f µs for an OS page that is used, %d plays, adopted: %t", size, cell.Used, learn.TouchArm(arm), a.Mean*1e6, a.Plays, arm == cell.Bandit.Adopted)
			}
		}
	}
}
