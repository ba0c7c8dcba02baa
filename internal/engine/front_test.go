package engine

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// TestNoFrontWhileWatched: a slow path that met the trap before watching began does not give its P
// a front afterwards.
func TestNoFrontWhileWatched(t *testing.T) {
	Watch(WatchCalls, true)
	defer Watch(WatchCalls, false)
	if !installFront(pinned) {
		t.Fatal("no front")
	}
	for pid := range pFronts {
		if Front(pFronts[pid]) != trapFront {
			t.Errorf("P %d has a front", pid)
		}
	}
	p := Malloc(0, 100)
	if _, tok := enter(0); tok < 0 {
		t.Errorf("enter gave token %d, want a locked front's", tok)
	} else {
		leave(tok)
	}
	if bad := Free(0, p); bad.Kind != OK {
		t.Errorf("Free: %+v", bad)
	}
}

// TestNoMoreFronts: when Heaps have their share of the fronts, another Heap cannot be made, and Err
// says why. A Heap that is closed makes room for another, and each P gets a front.
func TestNoMoreFronts(t *testing.T) {
	for _, x := range []struct{ ps, left int }{{3, NumShards}, {100, 100}, {200, 110}} {
		t.Run(fmt.Sprint(x.ps), func(t *testing.T) {
			withClock(t) // the fronts of Ps are in the pool
			forgetSurvived(t)
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(x.ps))
			frontPool.mu.Lock()
			if used := int(frontPool.built.Load()) - len(frontPool.free); used != 0 {
				t.Errorf("%d fronts are in use", used)
			}
			defer set(&frontPool.max, 220)()
			frontPool.mu.Unlock()

			var fronts []Front
			defer func() {
				for _, f := range fronts {
					CloseHeapFront(f)
				}
			}()
			for f := NewHeapFront(); f != 0; f = NewHeapFront() {
				fronts = append(fronts, f)
			}
			if n := len(fronts); n != 220-x.left || !reported("Close Heaps") {
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

// closedFronts returns 20 fronts of Heaps that are closed, each with something in its magazines'
// memory.
func closedFronts(t *testing.T) (fronts []Front) {
	t.Helper()
	for range 20 {
		f := NewHeapFront()
		for _, size := range []mem.Bytes{16, 1000, 20_000} {
			if bad := Free(f, Malloc(f, size)); bad.Kind != OK {
				t.Fatalf("%+v", bad)
			}
		}
		fronts = append(fronts, f)
	}
	for _, f := range fronts {
		CloseHeapFront(f)
	}
	return fronts
}

// remember returns how many of the fronts have something in their magazines' memory. It does not
// count OS pages that hold something else as well.
func remember(fronts []Front) (n int) {
	for _, f := range fronts {
		start, size := magazines(f)
		for slot := start; slot < start.Add(size); slot += 8 {
			if *word(slot) != 0 {
				n++
				break
			}
		}
	}
	return n
}

// TestSpareFronts: the memory of closed Heaps' magazines is returned when nobody wanted it for a
// tick, and by Trim. A front that is used again keeps its memory.
func TestSpareFronts(t *testing.T) {
	clock := withClock(t)
	fronts := closedFronts(t)
	if n := remember(fronts); n != len(fronts) {
		t.Fatalf("%d of %d fronts have memory: the test looks in the wrong place", n, len(fronts))
	}
	if clock.Pending() == 0 {
		t.Fatal("Heaps were closed, and no tick will come")
	}
	clock.Advance(tick()) // at this tick the scavenger learns how many there are
	used := fronts[15:]   // the last five of the pool
	for range 3 {
		for range used {
			NewHeapFront()
		}
		if n := remember(used); n != len(used) {
			t.Errorf("%d of %d fronts in use have memory", n, len(used))
		}
		for _, f := range used {
			CloseHeapFront(f)
		}
		clock.Advance(tick())
	}
	if n := remember(fronts[:15]); n != 0 {
		t.Errorf("%d of 15 fronts that nobody wanted have memory", n)
	}
	if n := remember(used); n != len(used) {
		t.Errorf("%d of %d fronts that were used in each tick have memory", n, len(used))
	}
	clock.Advance(time.Hour)
	if n := remember(fronts); n != 0 || clock.Pending() != 0 {
		t.Errorf("%d fronts have memory after an hour, %d timers are set", n, clock.Pending())
	}

	fronts = closedFronts(t)
	Trim()
	if n := remember(fronts); n != 0 {
		t.Errorf("%d fronts have memory after Trim", n)
	}
	clock.Advance(time.Hour)
}

func frontsInUse() int {
	var t Totals
	ReadTotals(&t)
	return t.Fronts
}

// TestReturnedFrontsAreNotRead: statistics leave fronts alone that have no memory. A read may take some.
func TestReturnedFrontsAreNotRead(t *testing.T) {
	needsLook(t)
	withClock(t)
	var before, after Totals
	ReadTotals(&before)
	fronts := closedFronts(t)
	Trim()
	ReadTotals(&after)
	countMisses()
	heldLarge()
	for _, f := range fronts {
		// The pages at the ends may hold something else as well, where OS pages are larger.
		from := mem.Addr(f - frontSkew).Up(osmem.PageSize())
		if n := residentBytes(t, from, mem.Bytes(frontSize).Down(osmem.PageSize())); n != 0 {
			t.Errorf("front %#x: %d bytes are resident", uintptr(f), n)
		}
	}
	misses := uint64(0)
	for c := range after.Classes {
		misses += after.Classes[c].Misses - before.Classes[c].Misses
	}
	if misses != 60 { // three in each front: its magazines were empty
		t.Errorf("%d misses, want 60", misses)
	}
	mustHold(t)
}

// TestSpareFrontsRefused: a front whose memory the system refuses to take stays as it is. A front
// that is left without memory is not used until it has some again, and Err reports it.
func TestSpareFrontsRefused(t *testing.T) {
	defer osmem.Inject(nil)
	decommitted := fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)
	for _, x := range []struct {
		discard, commit error
		report          string
		lost            bool
	}{
		{osmem.ErrInjected, nil, "return of free memory", false},
		{decommitted, nil, "return of free memory", false},
		{decommitted, osmem.ErrInjected, "commit of pages", true},
	} {
		withClock(t)
		forgetSurvived(t)
		fronts := closedFronts(t)
		pool, used := len(frontPool.free), frontsInUse()
		osmem.Inject(func(op osmem.Op) error {
			switch op {
			case osmem.OpDiscard:
				return x.discard
			case osmem.OpCommit:
				return x.commit
			}
			return nil
		})
		left := returnSpare(true, &scavenger.moving)
		osmem.Inject(nil)
		if left != x.lost || spareMemory() != x.lost {
			t.Errorf("%v, %v: something left: %v, %v, want %v", x.discard, x.commit, left, spareMemory(), x.lost)
		}
		if n := len(frontPool.lost); (n == len(fronts)) != x.lost || len(frontPool.free)+n != pool {
			t.Errorf("%v, %v: %d of %d fronts lost, %d of %d in the pool", x.discard, x.commit, n, len(fronts), len(frontPool.free), pool)
		}
		if n := frontsInUse(); n != used {
			t.Errorf("%v, %v: %d fronts are in use, before there were %d", x.discard, x.commit, n, used)
		}
		if !reported(x.report) {
			t.Errorf("%v, %v: not reported: %v", x.discard, x.commit, Survived())
		}
		mustHold(t)
		if returnSpare(false, &scavenger.moving) || len(frontPool.free) != pool {
			t.Errorf("%v, %v: %d of %d in the pool when there is memory again", x.discard, x.commit, len(frontPool.free), pool)
		}
		closedFronts(t) // all of them can be used again
	}
}

// TestFrontsInParts: where fronts are committed a part at a time, a part that the system refuses costs
// only what needs it: an allocation fails with the reason, a freed block goes back to its slab, and a
// magazine does not grow, neither by itself nor by a step of ACE.
func TestFrontsInParts(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: only Linux charges for what is committed, so fronts are whole elsewhere")
	}
	clock := withClock(t)
	forgetSurvived(t)
	var spare []Front
	for built := frontPool.built.Load(); ; {
		if frontPool.mu.Lock(); len(frontPool.free) == 0 {
			frontPool.mu.Unlock()
			break
		}
		frontPool.mu.Unlock()
		spare = append(spare, NewHeapFront())
		if frontPool.built.Load() != built {
			t.Fatal("a front was built while there were spare ones")
		}
	}
	other := Malloc(0, 64)
	large := Malloc(0, 100<<10)
	frontsInParts = true
	defer func() { frontsInParts = false }()
	f := NewHeapFront()
	system := osmem.PageSize()
	if n := f.head().committed.bytes(); n > frontHeadBytes()+quarantineRoom+2*system {
		t.Errorf("%d bytes of a new front are committed", n)
	}
	refuse := func(refused bool) {
		osmem.InjectPinned(func() error {
			if refused {
				return osmem.ErrInjected
			}
			return nil
		})
	}
	defer osmem.Inject(nil)
	defer osmem.InjectPinned(nil)
	refuse(true)
	if p := Malloc(f, 64); p != 0 {
		t.Error("a magazine was made without memory")
	}
	if err := Refusal(64); !errors.Is(err, errFrontCommit) {
		t.Errorf("the reason is %v", err)
	}
	for _, p := range []Block{other, large} {
		if bad := Free(f, p); bad.Kind != OK {
			t.Errorf("a free without a magazine: %+v", bad)
		}
	}
	mustHold(t)
	refuse(false)
	var blocks []Block
	for range 4 * firstCap {
		blocks = append(blocks, Malloc(f, 64))
	}
	refuse(true)
	for _, p := range blocks { // more than the magazine has room for
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatalf("%+v", bad)
		}
	}
	mustHold(t)
	c := sizeclass.Of(64)
	grow := func() uint16 {
		for range 6 {
			f.head().moved[c] = 1 << 20
			steps(clock, f, 1)
		}
		mustHold(t)
		return f.head().cap[c]
	}
	refused := grow()
	refuse(false)
	if whole := grow(); learning && system == 4096 && (refused > 511 || whole <= 511) { // 511 slots and the sentinel are 4 KiB
		t.Errorf("room for %d blocks where memory is refused, and %d where it is not", refused, whole)
	}
	setPrice(t, 64)
	steps(clock, f, 30)
	setPrice(t, 1)
	mustHold(t)
	for size := mem.Bytes(16); size <= sizeclass.MaxMid; size += size / 4 {
		if bad := Free(f, Malloc(f, size)); bad.Kind != OK {
			t.Errorf("%d bytes: %+v", size, bad)
		}
	}
	mustHold(t)
	// Its memory is given back with the right to it when it is spare, or the front is put aside.
	giveBack := func() bool {
		scavenger.mu.Lock()
		defer scavenger.mu.Unlock()
		return returnSpare(true, &scavenger.moving)
	}
	CloseHeapFront(f)
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpDiscard || op == osmem.OpCommit {
			return osmem.ErrInjected
		}
		return nil
	})
	if left := giveBack(); !left || len(frontPool.lost) != 1 {
		t.Errorf("refused: there is something left: %t; %d fronts are put aside", left, len(frontPool.lost))
	}
	mustHold(t)
	osmem.Inject(nil)
	if left := giveBack(); left || len(frontPool.lost) != 0 {
		t.Errorf("there is something left: %t; %d fronts are put aside", left, len(frontPool.lost))
	}
	for range 2 { // after the return was refused, and after it was done
		if g := NewHeapFront(); g != f {
			t.Fatalf("front %#x, want %#x", g, f)
		}
		for size := mem.Bytes(16); size <= sizeclass.MaxMid; size += size / 4 {
			if bad := Free(f, Malloc(f, size)); bad.Kind != OK {
				t.Errorf("%d bytes: %+v", size, bad)
			}
		}
		mustHold(t)
		CloseHeapFront(f)
		if left := giveBack(); left || f.head().touched.bytes() != 0 && osmem.KeepsReadable {
			t.Errorf("there is something left: %t; %d bytes count", left, f.head().touched.bytes())
		}
		mustHold(t)
	}
	f.commitRun(0, frontPage(frontSize/system)-1) // the other tests' fronts are whole
	frontsInParts = false
	for _, f := range spare {
		CloseHeapFront(f)
	}
	mustHold(t)
}
