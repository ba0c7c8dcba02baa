package heap

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/hakmem/hakmem/internal/osmem"
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
	before := Survived()
	defer func() {
		survived.Lock()
		survived.errs = before
		survived.Unlock()
	}()
	survived.Lock()
	survived.errs = nil
	survived.Unlock()
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
