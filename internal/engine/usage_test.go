package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// countedBy returns by how much the count of memory grows while do runs.
func countedBy(do func()) int64 {
	was := counted.Load()
	do()
	return counted.Load() - was
}

// needsUnits skips a test where memory is not known by units of 4 KiB.
func needsUnits(t *testing.T) {
	t.Helper()
	if osmem.PageSize() != residentUnit || region.huge {
		t.Skip("skipped: OS pages above 4 KiB, or huge pages by the system's choice")
	}
}

// fromTree allocates a large block and gives its pages back to the page tree, with their memory.
func fromTree(t *testing.T, size mem.Bytes) {
	t.Helper()
	p := Malloc(0, size)
	if p == 0 {
		t.Fatal(Survived())
	}
	freeBlocks(t, []Block{p})
	drainAll()
	trimCachesNow()
}

func trimCachesNow() {
	scavenger.mu.Lock()
	defer scavenger.mu.Unlock()
	trimCaches(0, 0)
}

// TestLargeBlocksCountWhatTheyUse: of its last page a large block counts what it uses, and as much
// as is resident from an earlier use, until that is returned.
func TestLargeBlocksCountWhatTheyUse(t *testing.T) {
	withClock(t)
	needsUnits(t)
	const tables = 32 << 10 // the most that a chunk's tables, and a magazine, add
	for _, c := range []struct{ size, want mem.Bytes }{{33 << 10, 36 << 10}, {40 << 10, 40 << 10}, {64 << 10, 64 << 10}, {65 << 10, 72 << 10}, {300 << 10, 320 << 10}, {2<<20 + 1, 2<<20 + 256<<10}} {
		fromTree(t, c.size)
		Trim()
		var p Block
		if n := countedBy(func() { p = Malloc(0, c.size) }); n < int64(c.want) || n > int64(c.want+tables) {
			t.Errorf("%d bytes count %d, want %d and tables", c.size, n, c.want)
		}
		if n := countedBy(func() { freeBlocks(t, []Block{p}); drainAll(); trimCachesNow() }); n < 0 || n > int64(frontHeadBytes()+2*osmem.PageSize()) { // its magazine, and the front if Trim has returned it
			t.Errorf("%d bytes: the free changes the count by %d", c.size, n)
		}
		if n := countedBy(func() { p = Malloc(0, c.size) }); n != 0 {
			t.Errorf("%d bytes again, of the same memory, count %d", c.size, n)
		}
		mustHold(t)
		freeBlocks(t, []Block{p})
	}

	// A page that was used as a whole counts as a whole, until the end of it is returned.
	fromTree(t, 64<<10)
	p := Malloc(0, 33<<10)
	last := p.page()
	if u := super(last.chunk()).resident(last); u != allUnits {
		t.Fatalf("the page was used as a whole, and units %#x count", u)
	}
	*u8(p.addr()) = 7
	*u8(p.addr() + 36<<10) = 9 // what an earlier block left
	withLimit(t, 0, uint64(counted.Load()))
	if n := countedBy(func() { trimEnds(mebibyte) }); n > -(28 << 10) {
		t.Errorf("the ends of last pages were returned, and the count changed by %d", n)
	}
	if *u8(p.addr()) != 7 || *u8(p.addr() + 36<<10) != 0 {
		t.Error("the block's memory is gone, or the memory behind it is not")
	}
	mustHold(t)
	noLimit(t)
	// The block grows into it.
	if n := countedBy(func() {
		if !Resize(p, 64<<10, KeepAll) {
			t.Error("the block does not grow within its page")
		}
	}); n != 28<<10 {
		t.Errorf("growth by 28 KiB counts %d", n)
	}
	mustHold(t)
	if !Resize(p, 33<<10, KeepAll) {
		t.Error("the block does not shrink")
	}
	mustHold(t)
	freeBlocks(t, []Block{p})
}

// TestTornEnd: the return of the end of a large block's last page fails halfway. Nobody gets the page
// until its memory is usable again, and the block does not grow into it.
func TestTornEnd(t *testing.T) {
	withClock(t)
	needsUnits(t)
	forgetSurvived(t)
	for _, refuseAgain := range []bool{false, true} {
		fromTree(t, 64<<10)
		p := Malloc(0, 33<<10)
		withLimit(t, 0, uint64(counted.Load()))
		broken := true
		osmem.Inject(func(op osmem.Op) error {
			switch {
			case op == osmem.OpDiscard:
				return fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)
			case op == osmem.OpCommit && broken:
				return osmem.ErrInjected
			}
			return nil
		})
		trimEnds(mebibyte)
		if super(p.page().chunk()).torn>>p.page().inChunk()&1 == 0 {
			t.Fatal("the end of the page is not torn")
		}
		mustHold(t)
		noLimit(t)
		if Resize(p, 64<<10, KeepAll) {
			t.Error("the block grew into memory that may not be touched")
		}
		*u8(p.addr()) = 1
		if refuseAgain {
			freeBlocks(t, []Block{p})
			drainAll()
			trimCachesNow()
			if s := super(p.page().chunk()); s.lost>>p.page().inChunk()&1 == 0 || s.free>>p.page().inChunk()&1 != 0 {
				t.Error("the page is free, and may not be touched")
			}
			findLost()
			mustHold(t)
			p = 0
		}
		broken = false
		findLost()
		osmem.Inject(nil)
		mustHold(t)
		if p != 0 {
			if !Resize(p, 64<<10, KeepAll) {
				t.Error("the block does not grow, with its page whole")
			}
			*u8(p.addr() + 64<<10 - 1) = 1
			freeBlocks(t, []Block{p})
		}
		Trim()
		mustHold(t)
	}
}

// TestSlabsCountWhatIsUsed: a slab counts the memory of the blocks that were taken from it, and its
// holes do not count until they are used again.
func TestSlabsCountWhatIsUsed(t *testing.T) {
	withClock(t)
	needsUnits(t)
	for _, size := range []mem.Bytes{16, 100, 1000, 5000, 28 << 10} {
		Trim()
		var fronts []Front
		var blocks []Block
		n := countedBy(func() {
			for range 50 {
				f := front(t)
				blocks = append(blocks, Malloc(f, size))
				fronts = append(fronts, f)
			}
		})
		// A first refill brings up to 16 blocks. A front has 16 KiB and one or two pages of magazines,
		// a tiny slab 4 KiB of live map, a chunk 20 KiB of tables.
		if most := int64(50 * (16*size.Up(16) + 3*residentUnit + 16<<10 + 2*residentUnit + residentUnit + 20<<10)); n > most {
			t.Errorf("50 Heaps with a block of %d bytes each count %d bytes, want at most %d", size, n, most)
		}
		mustHold(t)
		for i, f := range fronts {
			Free(f, blocks[i])
			CloseHeapFront(f)
		}
		mustHold(t)
	}

	// Holes, there and back.
	blocks := fillBytes(t, 8*mebibyte, 1024)
	Trim()
	full := counted.Load()
	var rest []Block
	for i, p := range blocks {
		if i%16 == 0 {
			rest = append(rest, p)
		} else {
			freeBlocks(t, []Block{p})
		}
	}
	Trim()
	holed := counted.Load()
	if n := full - holed; n < 5*mebibyte {
		t.Errorf("15 of 16 blocks of a KiB were freed, and of 8 MiB only %d bytes left the count", n)
	}
	mustHold(t)
	again := fillBytes(t, 7*mebibyte, 1024)
	if n := counted.Load(); n > full+mebibyte || n < full-2*mebibyte {
		t.Errorf("%d bytes count when the holes are used again, %d before", n, full)
	}
	mustHold(t)
	freeBlocks(t, again)
	freeBlocks(t, rest)
	Trim()
	mustHold(t)

	// A slab with holes is taken apart: nothing becomes resident, and the count stays.
	s := acquireSlab(commonList(sizeclass.Of(1024)))
	retire(s)
	if n := countedBy(func() {
		scavenger.mu.Lock()
		sweepEmpty()
		scavenger.mu.Unlock()
	}); n != 0 {
		t.Errorf("taking slabs apart changes the count by %d", n)
	}
	mustHold(t)
}

// TestSiteMapCounts: the site map counts where blocks with sites are, and no more when their pages'
// memory was returned.
func TestSiteMapCounts(t *testing.T) {
	if !checkLive {
		t.Skip("skipped: hakmem_nolive has no sites")
	}
	withClock(t)
	needsUnits(t)
	s := site.Register("usage")
	var blocks []Block
	plain := countedBy(func() { blocks = fillBytes(t, 4*mebibyte, 64) })
	freeBlocks(t, blocks)
	Trim()
	blocks = blocks[:0]
	sited := countedBy(func() {
		for range 4 * mebibyte / 64 {
			p := MallocAt(s, 64)
			if p == 0 {
				t.Fatal(Survived())
			}
			blocks = append(blocks, p)
		}
	})
	if n := sited - plain; n < 4*mebibyte/8-128<<10 || n > 4*mebibyte/8+256<<10 {
		t.Errorf("4 MiB of blocks with a site count %d bytes more than others, want an eighth", n)
	}
	mustHold(t)
	// At the limit there is neither memory for the block nor for its label.
	withLimit(t, 0, uint64(counted.Load()))
	for p := MallocAt(s, 64); p != 0; p = MallocAt(s, 64) {
		blocks = append(blocks, p)
	}
	if n, most := counted.Load(), memoryLimit.hard.Load(); n > most+pageSize {
		t.Errorf("%d bytes count, the limit is %d", n, most)
	}
	mustHold(t)
	noLimit(t)
	freeBlocks(t, blocks)
	if n := countedBy(func() { Trim() }); n > -sited/100*95 {
		t.Errorf("all was freed and returned, and the count changed by %d of %d", n, sited)
	}
	mustHold(t)
}

// TestRefusedReturnsStayCounted: memory that the system does not take counts.
func TestRefusedReturnsStayCounted(t *testing.T) {
	withClock(t)
	forgetSurvived(t)
	blocks := fillBytes(t, 8*mebibyte, 1024)
	large := fillBytes(t, 4*mebibyte, 33<<10)
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpDiscard {
			return osmem.ErrInjected
		}
		return nil
	})
	for i, p := range blocks {
		if i%16 != 0 {
			freeBlocks(t, []Block{p})
		}
	}
	freeBlocks(t, large)
	if n := countedBy(func() { Trim() }); n < 0 {
		t.Errorf("nothing could be returned, and the count changed by %d", n)
	}
	osmem.Inject(nil)
	mustHold(t)
	if n := countedBy(func() { Trim() }); n > -8*mebibyte {
		t.Errorf("everything could be returned, and the count changed by %d", n)
	}
	mustHold(t)
	for i, p := range blocks {
		if i%16 == 0 {
			freeBlocks(t, []Block{p})
		}
	}
	if !errors.Is(errors.Join(Survived()...), osmem.ErrInjected) {
		t.Error("nothing was refused")
	}
}

// TestPressureBacksOff: near the soft limit, with nothing to return, rounds become rare. They begin
// anew when memory in use has grown, and when it has shrunk and grown again.
func TestPressureBacksOff(t *testing.T) {
	c := withClock(t)
	scavenger.pressure.began = false
	scavenger.pressure.ask.Store(0)
	blocks := fillBytes(t, 64*mebibyte, 256<<10)
	withLimit(t, uint64(counted.Load()), 0)
	rounds := func(seconds int) (n uint64) {
		was := scavenger.pressure.rounds.Load()
		for range seconds * 100 {
			p := Malloc(0, 1000) // what a program does: it keeps the timer going
			Free(0, p)
			fromTree(t, 300<<10) // takes pages, which asks for a tick
			c.Advance(10 * time.Millisecond)
		}
		return scavenger.pressure.rounds.Load() - was
	}
	if n := rounds(2); n < 3 || n > 5 { // after 0, 0.2, 0.4, 0.8 s and so on
		t.Errorf("%d rounds in the first two seconds", n)
	}
	if n := rounds(10); n > 4 {
		t.Errorf("%d rounds in the next ten seconds, with nothing to return", n)
	}
	if n := rounds(60); n < 3 || n > 6 {
		t.Errorf("%d rounds in a minute, want one in 14 s", n)
	}
	more := fillBytes(t, 12*mebibyte, 256<<10)
	if n := rounds(1); n < 2 {
		t.Errorf("%d rounds in the second after memory has grown by more than an eighth", n)
	}
	freeBlocks(t, append(more, blocks[:100]...))
	Trim()
	rounds(4)
	blocks = append(blocks[100:], fillBytes(t, 25*mebibyte, 256<<10)...)
	if n := rounds(1); n < 2 {
		t.Errorf("%d rounds in the second in which memory came back", n)
	}
	noLimit(t)
	freeBlocks(t, blocks)
}

// TestHugePagesCountAsAWhole: where the system makes huge pages by itself, the first touch of a chunk
// brings memory for all of it, and that counts. The pages that nobody used read as zero, and go back
// like other free pages.
func TestHugePagesCountAsAWhole(t *testing.T) {
	c := withClock(t)
	Trim()
	was := region.huge
	setHuge := func(huge bool) { // tables that are in use count differently from then on
		region.mu.Lock()
		defer region.mu.Unlock()
		for _, h := range []bool{region.huge, huge} {
			region.huge = h
			sum := mem.Bytes(0)
			for c := region.firstChunk(); c < region.endChunk(); c++ {
				sum += liveBytes(super(c).tiny)
			}
			if h == huge {
				count(sum)
			} else {
				uncount(sum)
			}
		}
	}
	if !was {
		setHuge(true)
		defer setHuge(false)
	}
	inUse := counted.Load()
	big := Malloc(0, 8*mebibyte) // its first and last chunk are used in part
	if n := counted.Load() - inUse; n < 8*mebibyte || n > 14*mebibyte {
		t.Errorf("8 MiB count %d", n)
	}
	before := counted.Load()
	blocks := fillBytes(t, superSize-4*pageSize, 300<<10)
	if n := counted.Load() - before; n%superSize > superSize/8 {
		t.Errorf("blocks in new chunks count %d, which is not whole chunks and tables", n)
	}
	mustHold(t)
	// What is left of these chunks counts already.
	before = counted.Load()
	calls := osmem.Calls(osmem.OpCommit)
	p := MallocZero(0, 64<<10)
	for i := mem.Bytes(0); i < 64<<10; i += 512 {
		if *u8(p.addr().Add(i)) != 0 {
			t.Fatalf("byte %d of a zeroed block is not 0", i)
		}
	}
	if n := counted.Load() - before; n > 64<<10 || osmem.Calls(osmem.OpCommit) != calls {
		t.Errorf("64 KiB more of a chunk in use count %d", n)
	}
	mustHold(t)
	before = counted.Load()
	c.Advance(10 * time.Second)
	mustHold(t)
	if n := before - counted.Load(); n < 4*pageSize {
		t.Errorf("%d bytes were returned of chunks used in part", n)
	}
	freeBlocks(t, append(blocks, big, p))
	Trim()
	mustHold(t)
	if n := counted.Load(); n > inUse+mebibyte {
		t.Errorf("%d bytes count after all was freed, %d before", n, inUse)
	}
}
