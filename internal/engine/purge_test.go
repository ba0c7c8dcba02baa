package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// TestRuns: eachRun finds the runs that setRun made.
func TestRuns(t *testing.T) {
	for _, want := range [][][2]int{
		{}, {{0, 1}}, {{31, 2}}, {{0, 128}}, {{5, 3}, {31, 1}, {33, 62}, {96, 32}}, {{32, 32}, {127, 1}}, {{0, 32}, {64, 32}},
	} {
		var masks [4]pageSet
		for _, r := range want {
			setRun(masks[:], r[0], r[1])
		}
		got := [][2]int{}
		eachRun(masks[:], func(from, n int) { got = append(got, [2]int{from, n}) })
		if !slices.Equal(got, want) {
			t.Errorf("%v gives %v", want, got)
		}
		for _, r := range want {
			for b := r[0]; b < r[0]+r[1]; b++ {
				masks[b/superPages] &^= 1 << (b % superPages)
			}
		}
		if masks != [4]pageSet{} {
			t.Errorf("%v: setRun set other bits, too: %x", want, masks)
		}
	}
}

func TestWholePages(t *testing.T) {
	for _, tt := range []struct {
		page, length int
		system       mem.Bytes
		from, n      int
	}{
		{3, 5, 4 << 10, 3, 5},
		{3, 5, 16 << 10, 4, 4},
		{4, 4, 16 << 10, 4, 4},
		{5, 2, 16 << 10, 8, 0},
		{1, 63, 16 << 10, 4, 60},
		{1, 62, 64 << 10, 16, 32},
		{16, 16, 64 << 10, 16, 16},
		{17, 30, 64 << 10, 32, 0},
		{0, 1024, 64 << 10, 0, 1024},
	} {
		if from, n := wholePages(tt.page, tt.length, 4<<10, tt.system); n != tt.n || n > 0 && from != tt.from {
			t.Errorf("pages %d+%d, system pages of %d KiB: %d+%d, want %d+%d", tt.page, tt.length, tt.system>>10, from, n, tt.from, tt.n)
		}
	}
}

// TestPurgeVeryOldPages: pages are returned like others if nobody used them for more than half of
// the time that 32 bits of milliseconds can count.
func TestPurgeVeryOldPages(t *testing.T) {
	for _, age := range []millis{1 << 31, 3 << 30, 1<<32 - 1<<24} {
		c := withClock(t)
		withPolicy(t, map[string]string{"HAKMEM_HUGE_CACHE_BYTES": "0"})
		freeBlocks(t, fillBytes(t, 8*mebibyte, 4*mebibyte))
		region.mu.Lock()
		for c := region.firstChunk(); c < region.endChunk(); c++ {
			if s := super(c); s.free != 0 {
				noteFreed(c, s.free, milliseconds()-stamp(age))
			}
		}
		region.mu.Unlock()
		if _, dirty := use(); dirty == 0 {
			t.Fatal("nothing is dirty")
		}
		c.Advance(10 * time.Second)
		if _, dirty := use(); dirty != 0 {
			t.Errorf("%d days old: %d pages are still dirty", age/1000/3600/24, dirty)
		}
	}
}

// lostPages returns the pages that are out of use because their memory may not be touched, and how
// many of them were returned before their live map was lost.
func lostPages() (lost, clean int) {
	region.mu.Lock()
	defer region.mu.Unlock()
	for c := region.firstChunk(); c < region.endChunk(); c++ {
		s := super(c)
		lost += s.lost.count()
		clean += (s.lost &^ s.dirty).count()
	}
	return lost, clean
}

// TestLostPagesComeBack: from the n-th on, each discard leaves its range without memory, and no
// commit gives it back: the pages are out of use. When the system has memory again the next Trim
// recovers them, even if no other page is dirty.
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
		if used, dirty := use(); dirty != 0 {
			t.Errorf("discard %d refused: %d pages dirty after Trim, %d used", n, dirty, used)
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
