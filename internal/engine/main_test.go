package engine

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// TestMain stops the clock: tests look into the engine, and some replace the memory of its tables.
// What they leave behind must fit together.
func TestMain(m *testing.M) {
	if asan.On {
		fmt.Println("skipped: -asan; these tests look into where freed blocks go, which hardening changes: the public package's run")
		return
	}
	SetClock(&testkit.Clock{})
	status := m.Run()
	if err := CheckInvariants(); err != nil {
		fmt.Fprintln(os.Stderr, "after all tests:", err)
		status = 1
	}
	if os.Getenv(aloneVar) == "" && sizeclass.Spare() != sizeclass.NumSpare {
		fmt.Fprintf(os.Stderr, "a test has added block sizes, %+v, which other tests meet: have it run alone\n", addedSizes)
		status = 1
	}
	os.Exit(status)
}

// withClock gives the scavenger a clock that the test moves, a heap without free memory, and a
// model of hold times that has learnt nothing.
func withClock(t *testing.T) *testkit.Clock {
	t.Helper()
	if !Ready() {
		t.Fatal(Survived())
	}
	c := &testkit.Clock{}
	c.Skip(time.Hour)
	kickGrown() // growth by earlier tests does not count for this one
	SetClock(c)
	Trim()
	s := &scavenger
	s.mu.Lock()
	region.mu.Lock()
	keeper.model, keeper.machine = nil, learn.Probes{}
	lastProbe.made = true // a test that counts system calls has no probe among them
	region.mu.Unlock()
	clear(seenFronts[:])
	holeTimes.model, holeTimes.lastRound, holeTimes.roundAt = nil, 0, 0
	holeWaits.n = 0
	learner.Learner, learner.windowAt, learner.imported = nil, 0, nil
	peaks.Sizes = learn.Sizes{}
	for i := range peaks.asked {
		peaks.asked[i] = askedSizes[i].Load()
	}
	region.mu.Lock()
	lifetimes.frozen = false
	region.mu.Unlock()
	forgetBudget()
	s.mu.Unlock()
	t.Cleanup(func() {
		SetClock(&testkit.Clock{})
		mustHold(t)
	})
	return c
}

// forgetBudget begins anew with the budget of caches. Under scavenger.mu.
func forgetBudget() {
	budget.Budget, budget.looked, budget.factor = learn.Budget{}, 0, 0
	clear(budget.dwells[:])
	cachePrice.Store(0)
	for i := range shared {
		shared[i].shut.Store(0)
	}
}

// withRoom gives caches as much memory as they want, until the test ends.
func withRoom(t *testing.T) {
	t.Helper()
	tune(t, func(p *policy.Tuning) { p.CacheBudget = maxRegion })
	if !scavenger.lock() {
		t.Fatal("the scavenger is held")
	}
	forgetBudget()
	scavenger.unlock()
	openSlots()
}

// openSlots opens all shared slots, as blocks that are taken again do.
func openSlots() {
	for i := range shared {
		shared[i].won.Store(mostWon)
	}
}

// withPolicy puts settings in force for the test.
func withPolicy(t *testing.T, settings map[string]string) {
	t.Helper()
	old := policy.Current()
	s, errs := policy.Build(func(name string) (string, bool) { v, ok := settings[name]; return v, ok })
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	policy.Set(s, nil)
	t.Cleanup(func() { policy.Set(old, nil) })
}

// withLimit sets the memory limits for the test.
func withLimit(t *testing.T, soft, hard uint64) {
	t.Helper()
	if _, _, err := SwapMemoryLimit(soft, hard); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { noLimit(t) })
}

// noLimit takes the memory limits away.
func noLimit(t *testing.T) {
	t.Helper()
	if _, _, err := SwapMemoryLimit(0, 0); err != nil {
		t.Error(err)
	}
}

// mustHold wants all invariants to hold.
func mustHold(t testing.TB) {
	t.Helper()
	if err := CheckInvariants(); err != nil {
		t.Error(err)
	}
}

func use() (used, dirty int) {
	region.mu.Lock()
	defer region.mu.Unlock()
	return pageUse.used, pageUse.dirty
}

const mebibyte = 1 << 20

// fillBytes allocates total bytes in blocks of size and touches each page.
func fillBytes(t *testing.T, total, size mem.Bytes) (blocks []Block) {
	t.Helper()
	for range total / size {
		p := Malloc(0, size)
		if p == 0 {
			t.Fatal("out of memory", Survived())
		}
		for i := mem.Bytes(0); i < size; i += 4096 {
			*u8(p.addr().Add(i)) = 1
		}
		blocks = append(blocks, p)
	}
	return blocks
}

func freeBlocks(t *testing.T, blocks []Block) {
	t.Helper()
	for _, p := range blocks {
		if bad := Free(0, p); bad.Kind != OK {
			t.Fatalf("Free(%#x) = %+v", p, bad)
		}
	}
}

// front returns a Heap's front for a test.
func front(t *testing.T) Front {
	t.Helper()
	f := NewHeapFront()
	if f == 0 {
		t.Fatal(Survived())
	}
	return f
}

// heapFront gives the test a front of its own, as a Heap has one.
func heapFront(t *testing.T) Front {
	t.Helper()
	f := front(t)
	t.Cleanup(func() {
		if bad := CloseHeapFront(f); bad.Kind != OK {
			t.Errorf("closing the front: %+v", bad)
		}
	})
	return f
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

// reported says whether an error that survived has the text.
func reported(text string) bool {
	return slices.ContainsFunc(Survived(), func(err error) bool { return strings.Contains(err.Error(), text) })
}

// set replaces a value by another, and returns a function that undoes it.
func set[T any](p *T, v T) (repair func()) {
	old := *p
	*p = v
	return func() { *p = old }
}

// forgetFindings takes what was postponed.
func forgetFindings() {
	for TakeFinding().Kind != OK {
	}
}

// lateIn returns the address of the first late double free that do finds, or 0.
func lateIn(do func()) Block {
	forgetFindings()
	do()
	first := TakeFinding()
	forgetFindings()
	return Block(first.Addr)
}

// lateFlush is lateIn of a flush of blocks of class c.
func lateFlush(blocks []Block, c sizeclass.ID) Block { return lateIn(func() { flush(blocks, c) }) }

// needsLook skips the test where the system does not tell what is resident.
func needsLook(t *testing.T) {
	t.Helper()
	var look osmem.Look
	if err := osmem.BeginLook(&look); err != nil {
		t.Skip("skipped: ", err)
	}
	look.Close()
}

// residentBytes returns how many bytes of a range are resident.
func residentBytes(t *testing.T, addr mem.Addr, size mem.Bytes) int {
	t.Helper()
	var look osmem.Look
	if err := osmem.BeginLook(&look); err != nil {
		t.Fatal(err) // too late to skip the test, which has blocks; see needsLook
	}
	defer look.Close()
	n, known := look.Resident(addr, size)
	if !known {
		t.Fatal(osmem.ErrNotSupported)
	}
	return int(n)
}

// tick is tickTime for a caller that holds no lock.
func tick() time.Duration {
	region.mu.Lock()
	defer region.mu.Unlock()
	return tickTime()
}

// entered calls do as a pinned slow path would.
func entered(do func()) {
	check.Enter()
	defer check.Leave()
	do()
}

// acquireSlab is acquire for tests that do not ask which pages the slab got.
func acquireSlab(l listID) slabID {
	s, _ := acquire(l)
	return s
}
