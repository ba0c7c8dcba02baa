//go:build hakmem_check

package check

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/testkit"
)

// mutex has the methods and functions of a Mutex[R], for any R.
type mutex interface {
	Lock()
	TryLock() bool
	Unlock()
	MayLock()
	Held() bool
	MustHold(what string)
}

type locked[R Ranked] struct{ Mutex[R] }

func (m *locked[R]) MayLock()             { MayLock(&m.Mutex) }
func (m *locked[R]) Held() bool           { return Held(&m.Mutex) }
func (m *locked[R]) MustHold(what string) { MustHold(&m.Mutex, what) }

// newMutexes returns a lock of each rank.
func newMutexes() [numRanks]mutex {
	return [numRanks]mutex{
		&locked[Configured]{}, &locked[Totals]{}, &locked[Trace]{}, &locked[Recorders]{},
		&locked[Records]{}, &locked[Abandoned]{}, &locked[Watch]{}, &locked[Scavenger]{},
		&locked[Moving]{}, &locked[Drain]{}, &locked[OpenHeaps]{}, &locked[Guard]{}, &locked[FrontPool]{},
		&locked[Region]{}, &locked[Shard]{}, &locked[List]{}, &locked[Lane]{}, &locked[Sites]{},
		&locked[Profiled]{}, &locked[Survived]{}, &locked[Postponed]{}, &locked[Policy]{},
		&locked[Origin]{},
	}
}

// panics calls do, which must panic with a text that contains each of want.
func panics(t *testing.T, do func(), want ...string) {
	t.Helper()
	text, ok := testkit.PanicOf(do).(string)
	if !ok {
		t.Errorf("no panic, want one with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("the panic is %q, want %q in it", text, w)
		}
	}
}

// nothing fails the test if anything is noted of the goroutine. With all, it fails if anything is
// noted of any goroutine.
func nothing(t *testing.T, all bool) {
	t.Helper()
	if s := current(); s != nil {
		t.Errorf("still noted of the goroutine: %+v", s)
	}
	for i := range goroutines {
		if s := &goroutines[i]; all && (s.g.Load() != 0 || s.passed.Load() != 0) {
			t.Fatalf("entry %d is still in use: %+v", i, s)
		}
	}
}

func TestSize(t *testing.T) {
	if got, want := unsafe.Sizeof(Mutex[Shard]{}), unsafe.Sizeof(sync.Mutex{}); got != want {
		t.Errorf("a Mutex has %d bytes, a sync.Mutex %d", got, want)
	}
}

func TestRankOfEachType(t *testing.T) {
	for r, m := range newMutexes() {
		m.Lock()
		if s := current(); s.held != 1<<r {
			t.Errorf("%T has rank %v, want %v", m, s.rank[:s.n], Rank(r))
		}
		m.Unlock()
	}
}

// chains returns the order of docs/concurrency.md, written down independently of the table, as
// chains of locks. Each lock of a chain may be taken under all locks before it in the same chain.
func chains() (all [][]string) {
	last := strings.Fields("guard frontPool.mu region.mu sites.mu")
	lowest := [][]string{{"survived"}, {"postponed"}, {"policy's mu"}, {"telemetry's origin"}}
	var ends [][]string
	for _, l := range last {
		for _, low := range lowest {
			ends = append(ends, append([]string{l}, low...))
		}
	}
	for _, begin := range []string{
		"trace.mu records watchMu scavenger.mu scavenger.moving drainMu",
		"recorders records watchMu scavenger.mu scavenger.moving drainMu",
		"abandoned scavenger.mu scavenger.moving drainMu",
		"totals scavenger.moving drainMu",
	} {
		for _, end := range append(ends, []string{"shard.mu"}, []string{"listState.mu"}, []string{"lane.mu"}, []string{"openHeaps"}, []string{"guard", "profiled"}) {
			all = append(all, append(strings.Fields(begin), end...))
		}
	}
	for _, low := range lowest {
		all = append(all, append([]string{"configured", "region.mu"}, low...))
	}
	return all
}

// TestEachPair takes each lock under each other lock, and under another of the same rank, with Lock
// and with TryLock. What the order does not allow panics and names both locks, and nothing has
// changed afterwards.
func TestEachPair(t *testing.T) {
	allows := map[[2]string]bool{}
	for _, c := range chains() {
		for i := range c {
			for _, under := range c[:i] {
				allows[[2]string{under, c[i]}] = true
			}
		}
	}
	if n := len(allows); n < 120 || n > int(numRanks)*int(numRanks-1)/2 {
		t.Fatalf("the drawing allows %d pairs", n)
	}
	first, second := newMutexes(), newMutexes()
	for outer := range numRanks {
		for inner := range numRanks {
			a, b := first[outer], second[inner]
			a.Lock()
			if allows[[2]string{outer.String(), inner.String()}] {
				b.MayLock()
				b.Lock()
				b.Unlock()
				if !b.TryLock() {
					t.Errorf("TryLock of a free %v failed", inner)
				}
				b.Unlock()
			} else {
				text := fmt.Sprintf("%v is taken under %v (docs/concurrency.md, section 2); held, outermost first: %v", inner, outer, outer)
				panics(t, b.Lock, text)
				panics(t, func() { b.TryLock() }, text)
				panics(t, b.MayLock, text)
			}
			if !a.Held() || b.Held() {
				t.Errorf("%v under %v: held are %v, %v, want true, false", inner, outer, a.Held(), b.Held())
			}
			a.Unlock()
		}
	}
	nothing(t, true)
}

// TestChains takes every chain to its end and releases the locks in both orders.
func TestChains(t *testing.T) {
	byName := map[string]mutex{}
	for r, m := range newMutexes() {
		byName[Rank(r).String()] = m
	}
	for _, c := range chains() {
		for _, backwards := range []bool{false, true} {
			for _, name := range c {
				byName[name].Lock()
			}
			panics(t, byName["trace.mu"].Lock, "trace.mu is taken under "+c[len(c)-1], "first: "+strings.Join(c, ", "))
			for i := range c {
				if backwards {
					i = len(c) - 1 - i
				}
				byName[c[i]].MustHold("test")
				byName[c[i]].Unlock()
			}
		}
	}
	nothing(t, true)
}

// TestSameLock: a mutex that would wait for itself panics first.
func TestSameLock(t *testing.T) {
	for r, m := range newMutexes() {
		m.Lock()
		panics(t, m.Lock, Rank(r).String()+" is taken under "+Rank(r).String())
		m.Unlock()
	}
}

// TestPanicsBeforeItWaits: a lock is taken out of order while another goroutine holds it.
func TestPanicsBeforeItWaits(t *testing.T) {
	var shard Mutex[Shard]
	var region Mutex[Region]
	held, done := make(chan bool), make(chan bool)
	go func() {
		region.Lock()
		held <- true
		<-done
		region.Unlock()
		held <- true
	}()
	<-held
	shard.Lock()
	panics(t, region.Lock, "region.mu is taken under shard.mu")
	shard.Unlock()
	if region.TryLock() || Held(&region) {
		t.Error("TryLock took what another goroutine holds")
	}
	panics(t, region.Unlock, "region.mu is unlocked by a goroutine that does not hold it", "first: nothing")
	done <- true
	<-held
	nothing(t, true)
}

// TestUnlockOfAnother: two locks of the same rank are not confused.
func TestUnlockOfAnother(t *testing.T) {
	var lists [2]Mutex[List]
	lists[0].Lock()
	panics(t, lists[1].Unlock, "listState.mu is unlocked by a goroutine that does not hold it", "first: listState.mu")
	panics(t, func() { MustHold(&lists[1], "unlist") }, "unlist: needs listState.mu, which the goroutine does not hold")
	MustHold(&lists[0], "unlist")
	lists[0].Unlock()
	panics(t, func() { MustHold(&lists[0], "unlist") }, "unlist: needs listState.mu", "first: nothing")
	panics(t, lists[0].Unlock, "unlocked by a goroutine that does not hold it")
}

// TestLockOnAStack: if the address of a Mutex changed when its stack grew, the Mutex would no
// longer be held.
func TestLockOnAStack(t *testing.T) {
	done := make(chan bool)
	go func() { // with a small stack
		defer close(done)
		var m Mutex[Region]
		m.Lock()
		deep(100)
		if !Held(&m) {
			t.Error("not held after the stack has grown")
		}
		m.Unlock()
	}()
	<-done
}

//go:noinline
func deep(n int) byte {
	var frame [1024]byte
	if frame[n] = byte(n); n > 0 {
		frame[n] += deep(n - 1)
	}
	return frame[n]
}

func TestEntered(t *testing.T) {
	all := newMutexes()
	MustNotBeEntered("acquire")
	panics(t, func() { MustBeEntered("refill") }, "refill: the goroutine is not entered")
	panics(t, Leave, "left without being entered")

	Enter()
	MustBeEntered("refill")
	panics(t, func() { MustNotBeEntered("acquire") }, "acquire: the goroutine is entered")
	panics(t, Enter, "entered while entered")
	for r, m := range all {
		panics(t, m.Lock, Rank(r).String()+" is taken while entered", "first: nothing")
		panics(t, func() { m.TryLock() }, Rank(r).String()+" is taken while entered")
		panics(t, m.MayLock, Rank(r).String()+" is taken while entered")
	}
	Leave()
	panics(t, func() { MustBeEntered("refill") }, "refill: the goroutine is not entered")
	panics(t, Leave, "left without being entered")
	nothing(t, true)
}

// TestEnteredWithAShard does what the engine does where it cannot pin.
func TestEnteredWithAShard(t *testing.T) {
	var shards [2]Mutex[Shard]
	for _, take := range []func(){shards[0].Lock, func() { shards[0].TryLock() }} {
		take()
		Enter()
		MustBeEntered("refill")
		panics(t, func() { shards[1].TryLock() }, "shard.mu is taken while entered", "first: shard.mu")
		panics(t, shards[0].Unlock, "shard.mu is unlocked while entered")
		Leave()
		shards[0].Unlock()
	}
	nothing(t, true)
}

// TestEnteredUnderALock: a goroutine may enter under those locks under which a shard's lock may be
// taken.
func TestEnteredUnderALock(t *testing.T) {
	for r, m := range newMutexes() {
		m.Lock()
		switch Rank(r) {
		case trace, recorders, records, abandoned, watch, scavenger, moving, drain, totals, shard:
			Enter()
			Leave()
		default:
			panics(t, Enter, "entered under "+Rank(r).String()+", under which shard.mu is not taken")
		}
		m.Unlock()
	}
	nothing(t, true)
}

// TestExclusive takes locks as CheckInvariants does, and tries what is forbidden in exclusive use,
// too.
func TestExclusive(t *testing.T) {
	all := newMutexes()
	hold := []Rank{abandoned, scavenger, moving, guard, frontPool, region}
	Exclusive(func() {
		for _, r := range hold {
			all[r].Lock()
		}
		for _, r := range []Rank{shard, list, lane, sites} {
			all[r].Lock()
			for _, other := range []Rank{shard, list, lane, sites, frontPool, drain} {
				panics(t, all[other].Lock, other.String()+" is taken under ")
			}
			all[r].Unlock()
		}
		all[sites].Lock()
		all[survived].Lock()
		all[survived].Unlock()
		all[sites].Unlock()
		for _, r := range hold {
			all[r].Unlock()
		}
		panics(t, func() { Exclusive(func() {}) }, "exclusive use begins")
	})
	all[guard].Lock()
	panics(t, all[frontPool].Lock, "frontPool.mu is taken under guard")
	panics(t, func() { Exclusive(func() {}) }, "exclusive use begins")
	all[guard].Unlock()
	Enter()
	panics(t, func() { Exclusive(func() {}) }, "exclusive use begins")
	Leave()
	panics(t, func() { Exclusive(func() { panic("of do") }) }, "of do")
	nothing(t, true)
}

// TestMaxHeld finds the longest chain that is possible in exclusive use.
func TestMaxHeld(t *testing.T) {
	var longest func(under ranks) int
	longest = func(under ranks) (n int) {
		from := Rank(0)
		if under != 0 {
			from = innermost(under) + 1
		}
		for r := from; r < numRanks; r++ {
			if under&^(allowed[r]|together[r]) == 0 {
				n = max(n, 1+longest(under|1<<r))
			}
		}
		return n
	}
	if n := longest(0); n != maxHeld {
		t.Errorf("a goroutine can hold %d locks, maxHeld is %d", n, maxHeld)
	}
}

// TestNoAllocation: no call allocates Go memory, so a pinned goroutine can make all of them.
func TestNoAllocation(t *testing.T) {
	var m Mutex[Shard]
	if n := testing.AllocsPerRun(1000, func() {
		MayLock(&m)
		m.Lock()
		MustHold(&m, "test")
		Enter()
		MustBeEntered("test")
		Leave()
		m.Unlock()
		MustNotBeEntered("test")
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// TestManyGoroutines: when many goroutines use the same locks, the counts under them are right, and
// what is noted of a goroutine is its own.
func TestManyGoroutines(t *testing.T) {
	var shards [4]Mutex[Shard]
	var region Mutex[Region]
	counts, inRegion := [len(shards)]int{}, 0
	var wg sync.WaitGroup
	const goroutines, rounds = 64, 500
	for g := range goroutines {
		wg.Go(func() {
			for i := range rounds {
				s := (g + i) % len(shards)
				shards[s].Lock()
				Enter()
				counts[s]++
				if i%16 == 0 {
					runtime.Gosched() // while entered, as with a Heap's front
				}
				if !Held(&shards[s]) || Held(&region) || Held(&shards[(s+1)%len(shards)]) {
					t.Error("the goroutine holds one lock, and another is known of it")
				}
				Leave()
				shards[s].Unlock()
				region.Lock()
				inRegion++
				MustHold(&region, "test")
				region.Unlock()
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	if sum != goroutines*rounds || inRegion != goroutines*rounds {
		t.Errorf("counted %d and %d, want %d", sum, inRegion, goroutines*rounds)
	}
	nothing(t, true)
}

// TestTableLasts: 10^5 goroutines can enter, one after the other and all at once. The race detector
// has room for 8128 goroutines.
func TestTableLasts(t *testing.T) {
	total, atOnce := 100_000, 100_000
	if testkit.Race {
		atOnce = 4000
	}
	var wrong atomic.Int64
	for done := 0; done < total; done += atOnce {
		var all, entered sync.WaitGroup
		entered.Add(atOnce)
		leave := make(chan bool)
		for range atOnce {
			all.Go(func() {
				if current() != nil {
					wrong.Add(1)
				}
				Enter()
				entered.Done()
				<-leave
				if s := current(); s == nil || !s.entered {
					wrong.Add(1)
				}
				Leave()
			})
		}
		entered.Wait()
		close(leave)
		all.Wait()
	}
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d times what is known of a goroutine was wrong", n)
	}
	for range total / 1000 {
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { Enter(); Leave() })
		}
		wg.Wait()
	}
	nothing(t, true)
}

// TestSameHome: entries that want the same place are still found when those before them are gone.
func TestSameHome(t *testing.T) {
	const fake = 64 // not the address of a goroutine
	i := home(self())
	taken := &goroutines[i]
	if !taken.g.CompareAndSwap(0, fake) {
		t.Fatal("the entry is in use")
	}
	Enter() // its entry is behind the one taken
	if s := current(); s != &goroutines[next(i)] || taken.passed.Load() != 1 {
		t.Errorf("the entry is %p, passed %d, want the next, 1", s, taken.passed.Load())
	}
	taken.g.Store(0)
	MustBeEntered("test")
	Leave()
	nothing(t, true)
}
