package engine

import (
	"slices"
	"testing"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// cornered returns a huge block of size bytes with another one right behind it.
func cornered(t *testing.T, size mem.Bytes) (p, behind Block) {
	t.Helper()
	p, behind = Malloc(0, size), Malloc(0, 3*mebibyte)
	if p == 0 || behind == 0 {
		t.Fatal(Survived())
	}
	return p, behind
}

// TestMove: a huge block keeps its contents when it moves, its memory is never there twice, and its old
// pages read as zero afterwards. So it is whether the system moves the memory or not, or gives the
// pieces of a copy back or not, for blocks that become larger or smaller, and for those that have moved
// before.
func TestMove(t *testing.T) {
	const size = 5 * mebibyte
	for name, refused := range map[string]func(osmem.Op) bool{
		"moved":          func(osmem.Op) bool { return false },
		"copied":         func(op osmem.Op) bool { return op == osmem.OpMove },
		"copied, kept":   func(op osmem.Op) bool { return op == osmem.OpMove || op == osmem.OpDiscard },
		"moved, refused": func(op osmem.Op) bool { return op == osmem.OpDiscard },
	} {
		t.Run(name, func(t *testing.T) {
			withClock(t)
			defer osmem.Inject(nil)
			p, behind := cornered(t, size)
			testkit.Fill(ptr(p.addr()), size, 1)
			contents := uintptr(size)
			for _, to := range []mem.Bytes{7 * mebibyte, 3 * mebibyte, 9 * mebibyte} {
				osmem.Inject(nil)
				Trim() // so that the next place has no memory (isWarm)
				osmem.Inject(func(op osmem.Op) error {
					if refused(op) {
						return osmem.ErrInjected
					}
					return nil
				})
				used, dirty := use()
				was := meta(p.page()).pages
				q, old, can := Move(0, p, to, 1, Keep(contents))
				if !can || q == 0 || q == p {
					t.Fatalf("Move to %d bytes = %#x, %v: %v", to, q, can, Survived())
				}
				if now, _ := use(); now != used-int(was)+int(pagesOf(to)) && to > 3*mebibyte {
					t.Errorf("%d pages in use before the move of %d pages to %d, and %d in the middle of it", used, was, pagesOf(to), now)
				}
				if bad := Free(0, p); bad.Kind != Freed {
					t.Errorf("a free of a block that moves: %+v", bad)
				}
				if bad := old.Free(); bad.Kind != OK {
					t.Errorf("%+v", bad)
				}
				contents = min(contents, uintptr(to))
				if !testkit.Intact(ptr(q.addr()), contents&^7, 1) {
					t.Fatalf("the move to %d bytes changed the contents", to)
				}
				if !testkit.IsZero(ptr(q.addr().Add(mem.Bytes(contents))), uintptr(to)-contents) {
					t.Fatalf("the move to %d bytes left something behind byte %d", to, contents)
				}
				now, left := use()
				// Where the system makes huge pages by itself, the last chunk of the new place counts as a whole.
				whole := 0
				if region.huge {
					whole = superPages - 1
				}
				if now+left > used+dirty-int(was)+int(pagesOf(to))+int(was)+whole || name == "moved" && left > dirty+int(was) {
					t.Errorf("%d pages in use and %d dirty before, %d and %d after; was %d to %d", used, dirty, now, left, was, pagesOf(to))
				}
				for page := p.page(); page < p.page()+pageNo(was); page++ {
					s := super(page.chunk())
					if s.free>>page.inChunk()&1 != 0 && s.dirty>>page.inChunk()&1 == 0 && !testkit.IsZero(ptr(page.addr()), pageSize) {
						t.Fatalf("page %d of the old place counts as one without memory, and is not zero", page)
					}
				}
				mustHold(t)
				p = q
			}
			osmem.Inject(nil)
			freeBlocks(t, []Block{p, behind})
			Trim()
		})
	}
	TakeFinding()
}

// TestMoveClears: a block that moves to pages which others have filled has zeroes where it is to have them.
func TestMoveClears(t *testing.T) {
	withClock(t)
	const size, to = 5 * mebibyte, 9 * mebibyte
	p, behind := cornered(t, size)
	testkit.Fill(ptr(p.addr()), size, 1)
	const dirty = 4 * mebibyte // less than half of the new place: otherwise it would not move there (isWarm)
	filled := Malloc(0, dirty)
	testkit.Fill(ptr(filled.addr()), dirty, 2)
	if !Resize(filled, sizeclass.MaxMid+1, KeepAll) { // the rest goes to the page tree with its memory
		t.Fatal("the block did not become smaller")
	}
	const keep = size - mebibyte - 100
	q, old, can := Move(0, p, to, 1, keep)
	if !can || q < filled || q > filled+dirty {
		t.Fatalf("Move = %#x, %v, not behind %#x: nothing was tested", q, can, filled)
	}
	if bad := old.Free(); bad.Kind != OK {
		t.Errorf("%+v", bad)
	}
	if !testkit.Intact(ptr(q.addr()), keep&^7, 1) || !testkit.IsZero(ptr(q.addr().Add(keep)), to-keep) {
		t.Error("the contents were lost, or are not followed by zeroes")
	}
	mustHold(t)
	freeBlocks(t, []Block{q, behind, filled})
	Trim()
}

// TestNoMoveToMemory: a block does not move to pages of which half have memory, and stays as it was, unless a
// limit leaves no room for two.
func TestNoMoveToMemory(t *testing.T) {
	const size, to = 5 * mebibyte, 9 * mebibyte
	for _, x := range []struct {
		what       string
		soft, hard mem.Bytes // room within the limits; 0: there is none
		trim       bool
		moves      bool
	}{
		{"with memory", 0, 0, false, false},
		{"without memory", 0, 0, true, true},
		{"much room", 400 * mebibyte, 500 * mebibyte, false, false},
		{"near the soft limit", mebibyte, 0, false, true},
		{"near the hard limit", 0, to - mebibyte, false, true},
	} {
		t.Run(x.what, func(t *testing.T) {
			withClock(t)
			p, behind := cornered(t, size)
			testkit.Fill(ptr(p.addr()), size, 1)
			filled := Malloc(0, 2*to)
			if !Resize(filled, sizeclass.MaxMid+1, KeepAll) {
				t.Fatal("the block did not become smaller")
			}
			if x.trim {
				Trim()
			}
			limit := func(room mem.Bytes) uint64 {
				if room == 0 {
					return 0
				}
				return uint64(counted.Load()) + uint64(room)
			}
			withLimit(t, limit(x.soft), limit(x.hard))
			q, old, can := Move(0, p, to, 1, KeepAll)
			if can != x.moves || can != (q != 0) {
				t.Fatalf("Move = %#x, %v, want %v: %v", q, can, x.moves, Survived())
			}
			if can {
				old.Free()
				p = q
			}
			if !testkit.Intact(ptr(p.addr()), size, 1) {
				t.Error("the block has changed")
			}
			noLimit(t)
			mustHold(t)
			freeBlocks(t, []Block{p, behind, filled})
			Trim()
		})
	}
}

// TestMoveLoses: pages that a copy leaves unusable, some of which the system refused to take back
// earlier, are out of use until they are committed again.
func TestMoveLoses(t *testing.T) {
	withClock(t)
	forgetSurvived(t)
	defer osmem.Inject(nil)
	const size = 5 * mebibyte
	p, behind := cornered(t, size)
	region.mu.Lock()
	super(p.page().chunk()).outcome(1<<p.page().inChunk(), 1<<p.page().inChunk(), milliseconds())
	region.mu.Unlock()
	osmem.Inject(func(op osmem.Op) error {
		switch op {
		case osmem.OpDiscard:
			return osmem.ErrDecommitted
		case osmem.OpMove, osmem.OpCommit:
			return osmem.ErrInjected
		}
		return nil
	})
	q, old, can := Move(0, p, size-mebibyte, 1, KeepAll)
	if !can || q == 0 {
		t.Fatalf("Move = %#x, %v: %v", q, can, Survived())
	}
	if bad := old.Free(); bad.Kind != OK {
		t.Errorf("%+v", bad)
	}
	if s := super(p.page().chunk()); s.lost>>p.page().inChunk()&1 == 0 {
		t.Error("no page is lost: this test shows nothing")
	}
	mustHold(t)
	osmem.Inject(nil)
	freeBlocks(t, []Block{q, behind})
	Trim()
	mustHold(t)
	if s := super(p.page().chunk()); s.lost != 0 {
		t.Errorf("pages %#x stay lost", s.lost)
	}
	TakeFinding()
}

// TestMoveRefusesOthers: only a live huge block moves in this way.
func TestMoveRefusesOthers(t *testing.T) {
	withClock(t)
	small, chunk := Malloc(0, mebibyte), Block(0)
	chunk, _ = Chunk(5*mebibyte, 0)
	for name, p := range map[string]Block{"a block with a class": small, "a chunk of an Arena": chunk, "the inside of a block": chunk + pageSize} {
		if q, old, can := Move(0, p, 10*mebibyte, 1, KeepAll); can || q != 0 || old.Any() {
			t.Errorf("%s: Move = %#x, %v", name, q, can)
		}
	}
	freeBlocks(t, []Block{small})
	FreeChunk(chunk)
}

// TestMoveAtTheLimit: what a move adds counts, and no more; and a move that the limit refuses changes
// nothing.
func TestMoveAtTheLimit(t *testing.T) {
	withClock(t)
	const size = 32 * mebibyte
	p, behind := cornered(t, size)
	testkit.Fill(ptr(p.addr()), size, 1)
	used, dirty := use()
	const tables = 64 << 10 // those of the chunks in which the new place begins and ends
	most := counted.Load() + 4*mebibyte + tables
	withLimit(t, 0, uint64(most))
	refusals := limitHit.Load()
	if q, old, can := Move(0, p, size+8*mebibyte, 1, KeepAll); !can || q != 0 || old.Any() || limitHit.Load() == refusals {
		t.Errorf("a move beyond the limit: %#x, %v", q, can)
	}
	if at, _, _, why := liveByte(p); why != OK || state(at) == 0 || !testkit.Intact(ptr(p.addr()), size, 1) {
		t.Error("a move that was refused changed the block")
	}
	mustHold(t)
	q, old, can := Move(0, p, size+4*mebibyte, 1, KeepAll)
	if !can || q == 0 {
		t.Fatalf("a move within the limit: %#x, %v", q, can)
	}
	old.Free()
	if now, left := use(); now+left > used+dirty+4*mebibyte>>pageShift {
		t.Errorf("%d pages with memory, limit %d", now+left, used+dirty+4*mebibyte>>pageShift)
	}
	if n := counted.Load(); n > most+tables { // magazines that the P's front makes are not refused
		t.Errorf("%d bytes count, limit %d", n, most)
	}
	noLimit(t)
	freeBlocks(t, []Block{q, behind})
}

// TestSeams: what is known of the mappings that moves have made.
func TestSeams(t *testing.T) {
	region.mu.Lock()
	defer region.mu.Unlock()
	old := seams
	defer func() { seams = old }()
	seams = nil
	for _, s := range []struct {
		page pageNo
		n    pageCount
		want []pageNo
	}{
		{100, 50, []pageNo{100, 150}},
		{200, 50, []pageNo{100, 150, 200, 250}},
		{150, 10, []pageNo{100, 150, 160, 200, 250}},
		{90, 100, []pageNo{90, 190, 200, 250}},
		{190, 10, []pageNo{90, 190, 200, 250}},
		{80, 200, []pageNo{80, 280}},
		{80, 100, []pageNo{80, 180, 280}},
	} {
		if noteMapping(s.page, s.n); !slices.Equal(seams, s.want) {
			t.Errorf("after a mapping of %d pages at %d: %v, want %v", s.n, s.page, seams, s.want)
		}
	}
	if got := seamsIn(80, 200); !slices.Equal(got, []pageNo{180}) {
		t.Errorf("between 80 and 280: %v", got)
	}
	if got := seamsIn(181, 99); len(got) != 0 {
		t.Errorf("between 181 and 280: %v", got)
	}
}

// TestMoveOfPiecesAllocatesNothing: a move of a block that consists of several mappings takes nothing from
// Go's heap.
func TestMoveOfPiecesAllocatesNothing(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: the detectors allocate")
	}
	withClock(t)
	p, to := Malloc(0, 5*mebibyte), []mem.Bytes{7 * mebibyte, 5 * mebibyte}
	testkit.Fill(ptr(p.addr()), 5*mebibyte, 1)
	i, pieces := 0, 0
	if n := testing.AllocsPerRun(100, func() {
		region.mu.Lock()
		noteMapping(p.page()+8, 8)
		pieces += len(seamsIn(p.page(), 80)) + 1
		region.mu.Unlock()
		q, old, can := Move(0, p, to[i%2], 1, 5*mebibyte)
		if !can || q == 0 {
			t.Fatalf("Move = %#x, %v: %v", q, can, Survived())
		}
		old.Free()
		p, i = q, i+1
	}); n != 0 {
		t.Errorf("%v allocations in a move", n)
	}
	if !testkit.Intact(ptr(p.addr()), 5*mebibyte, 1) {
		t.Error("the contents have changed")
	}
	if pieces < 3*i {
		t.Errorf("%d moves of %d pieces", i, pieces)
	}
	mustHold(t)
	freeBlocks(t, []Block{p})
	Trim()
}
