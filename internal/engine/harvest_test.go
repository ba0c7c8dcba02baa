package engine

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// testHeap stands for a Heap of the public package. Its fast paths are here step by step, so that a
// test can leave one between two steps.
type testHeap struct {
	fast, own Front
	_         [2]uintptr // larger than what the Go allocator packs together
}

func newTestHeap(t *testing.T) *testHeap {
	t.Helper()
	h := &testHeap{own: front(t)}
	OpenHeap(h.own, &h.fast)
	ReopenHeap(h.own, &h.fast)
	return h
}

func (h *testHeap) close(t *testing.T) {
	t.Helper()
	if bad := CloseHeapFront(h.own); bad.Kind != OK {
		t.Errorf("closing: %+v", bad)
	}
}

func (h *testHeap) slow() {
	if Front(atomic.LoadUintptr((*uintptr)(&h.fast))) != h.own {
		ReopenHeap(h.own, &h.fast)
	}
}

func (h *testHeap) malloc(size mem.Bytes) Block {
	c := sizeclass.LargeOf(size)
	if size <= sizeclass.MaxMid {
		c = sizeclass.Of(size)
	}
	if p := h.fast.pop(c); p != 0 {
		setLive(p, c, liveState(c))
		return p
	}
	h.slow()
	return Malloc(h.own, size)
}

func (h *testHeap) free(t *testing.T, p Block) {
	t.Helper()
	at, m, _, _ := liveByte(p)
	if c := m.class; c != 0 && h.fast.held(c) > 0 && mem.Bytes(*h.fast.top(c))%magSize(c) != 0 {
		putState(at, 0)
		h.fast.push(c, p)
		return
	}
	h.slow()
	if bad := Free(h.own, p); bad.Kind != OK {
		t.Errorf("Free(%#x) = %+v", p, bad)
	}
}

// use leaves n blocks of size in the Heap's magazine, or as many as there is room for.
func (h *testHeap) use(t *testing.T, n int, sizes ...mem.Bytes) {
	t.Helper()
	for _, size := range sizes {
		var blocks []Block
		for range n {
			p := h.malloc(size)
			if p == 0 {
				t.Fatal(Survived())
			}
			*u8(p.addr()) = 1
			blocks = append(blocks, p)
		}
		for _, p := range blocks {
			h.free(t, p)
		}
	}
}

var heapSizes = []mem.Bytes{16, 512, 1000, 2000, 30_000, 40_000, 900_000}

// wantHarvested checks that the Heap has given back all but a block of each tiny class, and will
// notice.
func (h *testHeap) wantHarvested(t *testing.T, most uintptr) {
	t.Helper()
	if d := h.own.head().duty.Load(); d != harvested || h.fast != trapFront {
		t.Fatalf("duty %d, fast paths use %#x; want %d and the trap, %#x", d, h.fast, harvested, trapFront)
	}
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		if n := h.own.held(c); n > 0 && (c > sizeclass.NumTiny || n > most) {
			t.Errorf("class %d: %d blocks left", c, n)
		}
		if c <= sizeclass.Num && *h.own.lease(c) != 0 {
			t.Errorf("class %d: a lease is left", c)
		}
	}
}

// TestIdleHeap: a Heap that is not used for a while gives back what it holds, and then works as
// before. One that is in use keeps it. When all Heaps are idle the scavenger comes to rest.
func TestIdleHeap(t *testing.T) {
	clock := withClock(t)
	idle, busy := newTestHeap(t), newTestHeap(t)
	kept := Block(0)
	for round := range 3 {
		idle.use(t, 50, heapSizes...)
		busy.use(t, 50, heapSizes...)
		room := idle.own.head().cap
		held := busy.own.heldBytes()
		for range 60 { // one tick each
			if p := kept; p != 0 {
				busy.free(t, p)
				kept = 0
			} else {
				kept = busy.malloc(16)
			}
			clock.Advance(tick())
		}
		idle.wantHarvested(t, 1)
		if d := busy.own.head().duty.Load(); d != calm || busy.fast != busy.own || busy.own.held(1) < 20 {
			t.Errorf("round %d: the Heap in use: duty %d, %d of %d bytes held", round, d, busy.own.heldBytes(), held)
		}
		mustHold(t)
		idle.use(t, 1, heapSizes...)
		if now := idle.own.head(); now.cap != room || now.duty.Load() != calm || idle.fast != idle.own {
			t.Errorf("round %d: magazines have room for %v blocks, before %v; duty %d", round, now.cap, room, now.duty.Load())
		}
	}
	clock.Advance(time.Hour)
	idle.wantHarvested(t, 1)
	busy.wantHarvested(t, 1)
	if n := clock.Pending(); n != 0 {
		t.Errorf("an hour after the last call %d timers are set", n)
	}
	was := times.epoch.Load()
	for range 3 { // nothing but pushes: does the scavenger notice?
		idle.free(t, Malloc(0, 16))
	}
	if clock.Advance(time.Hour); times.epoch.Load() == was {
		t.Error("the scavenger sleeps while a Heap holds blocks")
	}
	idle.wantHarvested(t, 1)
	idle.close(t)
	busy.close(t)
}

// TestTrimHarvestsHeaps: Trim empties the Heaps that are in use too. One that is in a slow path then
// keeps its blocks until its next one.
func TestTrimHarvestsHeaps(t *testing.T) {
	withClock(t)
	a, b := newTestHeap(t), newTestHeap(t)
	a.use(t, 50, heapSizes...)
	b.use(t, 50, heapSizes...)
	held := b.own.heldBytes()
	b.own.hold()
	Trim()
	a.wantHarvested(t, 1)
	if n := b.own.heldBytes(); n != held || b.own.head().duty.Load() != asked {
		t.Errorf("%d of %d bytes held, duty %d: its owner is in a slow path", n, held, b.own.head().duty.Load())
	}
	b.own.release()
	b.slow()
	if b.fast != b.own {
		t.Error("the fast paths do not get their front back")
	}
	Free(b.own, Malloc(0, 16))
	if n := b.own.heldBytes(); n != 0 {
		t.Errorf("%d of %d bytes held after the next call", n, held)
	}
	b.use(t, 50, heapSizes...)
	b.own.hold()
	Trim()
	b.own.release() // and then the owner does nothing
	Trim()
	b.wantHarvested(t, 1)
	a.close(t)
	b.close(t) // as it is
	mustHold(t)
}

// TestTrimHeapFront: the owner gives back everything.
func TestTrimHeapFront(t *testing.T) {
	withClock(t)
	h := newTestHeap(t)
	h.use(t, 50, heapSizes...)
	if bad := TrimHeapFront(h.own); bad.Kind != OK || h.own.heldBytes() != 0 || *h.own.lease(1) != 0 {
		t.Errorf("%+v; %d bytes held, lease %d", bad, h.own.heldBytes(), *h.own.lease(1))
	}
	h.close(t)
}

// TestHarvestDuringACall: a fast path that was preempted between any two of its steps goes on after
// the harvest. No block is lost, none is there twice.
func TestHarvestDuringACall(t *testing.T) {
	const c = sizeclass.ID(2)
	withClock(t)
	for _, held := range []int{0, 1, 2, 3, 100, firstCap} {
		for done := range 3 {
			for _, kind := range []string{"pop", "push", "push, the slot first"} {
				h := newTestHeap(t)
				f := h.own
				p := Malloc(f, 32)
				var blocks []Block
				for range held {
					blocks = append(blocks, Malloc(f, 32))
				}
				var rest []Block // what the refills brought
				for q := f.pop(c); q != 0; q = f.pop(c) {
					rest = append(rest, q)
				}
				flush(rest, c)
				for _, q := range blocks {
					at, _, _, _ := liveByte(q)
					putState(at, 0)
					f.push(c, q)
				}
				if int(f.held(c)) != held {
					t.Fatalf("%d blocks held, want %d", f.held(c), held)
				}
				f.head().seen[c] = uint16(held)
				// The steps of the call, after the load of the front.
				var steps []func()
				top := *f.top(c)
				popped := Block(0)
				switch {
				case kind == "pop" && held > 0:
					steps = []func(){
						func() { popped = Block(*word(top)) },
						func() { *f.top(c) = top - 8 },
						func() { setLive(popped, c, liveState(c)) },
					}
				case kind == "push" && held < firstCap:
					at, _, _, _ := liveByte(p)
					steps = []func(){
						func() { putState(at, 0) },
						func() { *f.top(c) = top + 8 },
						func() { *word(top + 8) = uintptr(p) },
					}
				case held < firstCap && kind != "pop":
					at, _, _, _ := liveByte(p)
					steps = []func(){
						func() { putState(at, 0) },
						func() { *word(top + 8) = uintptr(p) },
						func() { *f.top(c) = top + 8 },
					}
				default:
					freeBlocks(t, []Block{p})
					h.close(t)
					continue
				}
				for _, step := range steps[:done] {
					step()
				}
				Trim()
				for _, step := range steps[done:] {
					step()
				}
				name := fmt.Sprintf("%s with %d held, after %d steps", kind, held, done)
				h.wantHarvested(t, 2)
				left := f.held(c)
				h.slow()
				if n := f.held(c); n != left || int(f.head().cap[c]) != firstCap {
					t.Errorf("%s: %d blocks, %d before the front was used again; room for %d", name, n, left, f.head().cap[c])
				}
				want := map[Block]bool{p: kind != "pop"}
				for _, q := range blocks {
					want[q] = q != popped
				}
				// Each block is in the magazine or in its slab, except for the one in the caller's hands.
				in := map[Block]int{}
				for slot := f.sentinel(c) + 8; slot <= *f.top(c); slot += 8 {
					in[Block(*word(slot))]++
				}
				for q, free := range want {
					s := owner(q)
					j := q.addr().From(s.addr()) / c.Bytes()
					if *s.bits(uint32(j / 64))>>(j%64)&1 != 0 {
						in[q]++
					}
					if in[q] != 1 && free || in[q] != 0 && !free {
						t.Errorf("%s: a block is in %d places; is it free: %v", name, in[q], free)
					}
				}
				if kind == "pop" {
					freeBlocks(t, []Block{p, popped})
				}
				h.close(t)
			}
		}
	}
}

// TestHeapGoneBeforeHarvest: Heaps that are closed or unreachable are left alone, and those that get
// their fronts keep them.
func TestHeapGoneBeforeHarvest(t *testing.T) {
	withClock(t)
	h := newTestHeap(t)
	h.use(t, 50, heapSizes...)
	var seen *openHeap
	for _, x := range appendHeaps(nil) {
		if x.front == h.own {
			seen = x
		}
	}
	h.close(t)
	next := newTestHeap(t)
	if next.own != h.own {
		t.Fatalf("the next Heap's front is %#x, want %#x", next.own, h.own)
	}
	next.use(t, 50, heapSizes...)
	if seen.ask() || next.own.head().duty.Load() != calm {
		t.Errorf("a closed Heap was asked for its front; duty %d", next.own.head().duty.Load())
	}
	next.own.head().duty.Store(asked) // as if by a harvester that is about to stop the world
	next.close(t)
	last := newTestHeap(t)
	if last.own != h.own || last.own.head().duty.Load() != calm || last.own.harvest() {
		t.Errorf("the front of a closed Heap is harvested; duty %d", last.own.head().duty.Load())
	}
	last.close(t)
}

// TestFreedHeapIsNotWrittenTo: a Heap that the collector has freed is not asked for its front.
func TestFreedHeapIsNotWrittenTo(t *testing.T) {
	withClock(t)
	f := front(t)
	func() {
		h := &testHeap{own: f}
		OpenHeap(f, &h.fast)
		ReopenHeap(f, &h.fast)
	}()
	openHeaps.Lock()
	x := openHeaps.by[f]
	openHeaps.Unlock()
	for end := time.Now().Add(20 * time.Second); x.fast.Value() != nil; runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the collector does not find the Heap")
		}
	}
	Trim()
	if d := f.head().duty.Load(); d != calm {
		t.Errorf("duty %d of a Heap that is no more", d)
	}
	CloseHeapFront(f)
}

// TestSpentCounters: the counts of a front stay when its memory is returned.
func TestSpentCounters(t *testing.T) {
	withClock(t)
	h := newTestHeap(t)
	h.use(t, 200, heapSizes...)
	h.close(t)
	var before, after Totals
	ReadTotals(&before)
	Trim()
	ReadTotals(&after)
	before.Drains, after.Drains = 0, 0
	for c := range before.Classes {
		b, a := before.Classes[c], after.Classes[c]
		if b.FrontHits != a.FrontHits || b.Misses != a.Misses || b.Refills != a.Refills || b.Flushes > a.Flushes {
			t.Errorf("class %d: %+v, before %+v", c, a, b)
		}
	}
	if before.Stages != after.Stages {
		t.Errorf("%+v, before %+v", after.Stages, before.Stages)
	}
	if frontPool.clean != len(frontPool.free) {
		t.Errorf("%d of %d spare fronts have no memory", frontPool.clean, len(frontPool.free))
	}
}

// pauses returns how often the world was stopped for another reason than the collector's.
func pauses() (n uint64) {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/other:seconds"}}
	metrics.Read(sample)
	for _, count := range sample[0].Value.Float64Histogram().Counts {
		n += count
	}
	return n
}

// TestHarvestStops: a harvest stops the world once for all Heaps, and a tick that harvests none does
// not stop it.
func TestHarvestStops(t *testing.T) {
	clock := withClock(t)
	var heaps []*testHeap
	for range 20 {
		h := newTestHeap(t)
		h.use(t, 20, 16, 2000, 40_000)
		heaps = append(heaps, h)
	}
	before := pauses()
	for range 100 {
		clock.Advance(tick())
	}
	for _, h := range heaps {
		h.wantHarvested(t, 1)
	}
	if n := pauses() - before; n != 1 {
		t.Errorf("20 idle Heaps stopped the world %d times, want once", n)
	}
	for _, h := range heaps {
		h.close(t)
	}
}

// TestHarvestUnderUse has goroutines that use Heaps without a pause while others harvest them.
func TestHarvestUnderUse(t *testing.T) {
	withClock(t)
	var stop atomic.Bool
	done := make(chan error)
	const goroutines = 4
	for g := range goroutines {
		go func() {
			h := newTestHeap(t)
			n := 0
			for !stop.Load() {
				size := heapSizes[n%(len(heapSizes)-2)]
				var blocks []Block
				for i := range 20 + n%60 {
					h.own.hold() // the steps of testHeap.malloc are no fast path that a harvest may meet
					h.own.release()
					p := Malloc(h.own, size)
					if p == 0 {
						done <- fmt.Errorf("no memory")
						return
					}
					testkit.Fill(unsafe.Pointer(ptr(p.addr())), 16, uint64(g<<32+i))
					blocks = append(blocks, p)
				}
				for i, p := range blocks {
					if !testkit.Intact(unsafe.Pointer(ptr(p.addr())), 16, uint64(g<<32+i)) {
						done <- fmt.Errorf("block %#x was changed", p)
						return
					}
					if bad := Free(h.own, p); bad.Kind != OK {
						done <- fmt.Errorf("%+v", bad)
						return
					}
				}
				if n++; n%50 == 0 {
					CloseHeapFront(h.own)
					h = newTestHeap(t)
				}
			}
			CloseHeapFront(h.own)
			done <- nil
		}()
	}
	for range 300 {
		Trim()
	}
	stop.Store(true)
	for range goroutines {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
