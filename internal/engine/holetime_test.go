package engine

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/osmem"
)

// TestHoleTimes: for how long slabs are PARTIAL before they are punched follows from how long they waited
// until they were wanted again.
func TestHoleTimes(t *testing.T) {
	if !learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	if osmem.PageSize() > 4096 {
		t.Skip("skipped: OS pages of more than 4 KiB leave few holes in a slab")
	}
	for _, test := range []struct {
		name        string
		wait        time.Duration
		least, most millis // of the hold time
	}{
		{"wanted soon", 500 * time.Millisecond, 550, 1500},
		{"wanted late", 20 * time.Second, 0, 1000},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := withClock(t)
			const size = 512
			blocks := fillBytes(t, 8*mebibyte, size)
			for range 100 {
				// Every 32nd block stays, so that there is no EMPTY slab.
				for i, p := range blocks {
					if i%32 != 0 {
						Free(0, p)
					}
				}
				c.Advance(test.wait)
				for i := range blocks {
					if i%32 != 0 {
						if blocks[i] = Malloc(0, size); blocks[i] == 0 {
							t.Fatal(Survived())
						}
					}
				}
			}
			sum, slabs := millis(0), millis(0)
			for _, p := range blocks {
				sum, slabs = sum+min(holeTime(owner(p).page()), 10_000), slabs+1
			}
			if mean := sum / slabs; mean < test.least || mean > test.most {
				t.Errorf("the hold time of holes is %d ms on average, want %d to %d", mean, test.least, test.most)
			}
			freeBlocks(t, blocks)
		})
	}
}

// TestHolesWait: a wait counts as long once, in the first whole round that finds it so, however far apart
// rounds are.
func TestHolesWait(t *testing.T) {
	if !learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	withClock(t)
	if !scavenger.lock() {
		t.Fatal("the scavenger is held")
	}
	defer scavenger.unlock()
	m := holesModel()
	long := stamp(ownTime(m.Long()))
	const listed = stamp(1 << 20)
	for _, test := range []struct {
		name   string
		rounds []stamp // when they begin, after the listing
		want   float64
	}{
		{"often", []stamp{1, long / 2, long - 1, long, long + 1, 2 * long}, 1},
		{"seldom", []stamp{2 * long, 5 * long}, 1},
		{"never so long", []stamp{1, long - 1}, 0},
	} {
		at := stamp(listed - 10)
		holeTimes.roundAt, holeTimes.lastRound = at, at
		before := holeTimes.model.Judge().Waits
		for _, r := range test.rounds {
			beginHoleRound(listed + r)
			holesWait(region.firstPage(), 1, listed)
			endHoleRound()
		}
		m.Tick(time.Hour)
		if n := m.Judge().Waits; n != test.want {
			t.Errorf("%s: %g long waits, want %g (%g before)", test.name, n, test.want, before)
		}
	}
}
