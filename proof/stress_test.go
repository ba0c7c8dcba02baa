package proof

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Stress: goroutines allocate, write, hand blocks to each other, verify, free, and end, while
// others trim, read statistics, walk over live blocks and change GOMAXPROCS. The number of
// operations is bounded. The goroutine that frees a block checks its pattern, which follows from
// the block's address and its owner's number. A block that two goroutines have at the same time has
// a wrong pattern, and so has a block that was lost and handed out again.

// opsVar is the environment variable with the number of operations of all tests of this file
// together.
const opsVar = "HAKMEM_PROOF_OPS"

// shares is the number of runs that share these operations.
const shares = 17

func stressOps(t *testing.T) int {
	ops := 8_000_000 // some seconds
	switch {
	case os.Getenv(opsVar) != "":
		n, err := strconv.Atoi(os.Getenv(opsVar))
		if err != nil || n <= 0 {
			t.Fatalf("%s=%q: use a number of operations", opsVar, os.Getenv(opsVar))
		}
		ops = n
	case testing.Short():
		ops = 400_000
	case testkit.Race:
		ops = 1_000_000
	}
	return max(ops/shares, 1)
}

// stress is one run: workers that together do ops operations.
type stress struct {
	workers, ops int
	seed         uint64
	lifetime     int           // operations of one goroutine
	limited      bool          // a hard limit is set, or will be: an allocation may fail
	refused      int           // one call of the system in so many fails; 0: none
	verified     atomic.Uint64 // blocks and pieces of Arenas that were intact at their end
	lives        atomic.Uint64 // goroutines
	bad          atomic.Int32
}

func (s *stress) fail(t *testing.T, format string, args ...any) {
	if s.bad.Add(1) <= 5 { // the first few are enough
		t.Errorf(format, args...)
	}
}

// worker is a chain of goroutines: each does some operations, hands what it has to a new one, and
// ends.
type worker struct {
	*stress
	t      *testing.T
	id     int
	r      *rand.Rand
	left   int // operations
	inbox  <-chan block
	outbox chan<- block
	done   *sync.WaitGroup

	heap   *hakmem.Heap // nil: the global functions
	arena  *hakmem.Arena
	pieces []block
	held   [128]block
	sites  [2]hakmem.Site
	made   uint64
	whole  uint64 // verified, but not yet counted
}

// longestLife bounds the operations of one goroutine. It is short enough that many goroutines end
// in a run, and long enough that most of them run on several Ps. A short run has shorter lives, so
// that each of its workers is at least leastLives goroutines, too.
const (
	longestLife = 2000
	leastLives  = 5
)

// verify checks a block before its end.
func (w *worker) verify(b *block) {
	if !intact(b.p, b.usable, b.usable, b.key) {
		w.fail(w.t, "worker %d: %v is damaged", w.id, b)
	}
	w.whole++
}

// release verifies the block and frees it in one of several ways.
func (w *worker) release(b block) {
	w.verify(&b)
	if u := hakmem.UsableSize(b.p); u != b.usable {
		w.fail(w.t, "worker %d: %v has %d usable bytes", w.id, &b, u)
	}
	switch n := w.r.UintN(16); {
	case n == 0:
		hakmem.FreeBytes(sliceAt[byte](b.p))
	case n == 1:
		hakmem.FreeSlice(sliceAt[int64](b.p))
	case n == 2:
		hakmem.Delete((*record)(b.p))
	case w.heap != nil && n < 14:
		w.heap.Free(b.p)
	default:
		hakmem.Free(b.p)
	}
}

// own marks the block at p as the worker's.
func (w *worker) own(p unsafe.Pointer, size uintptr) block {
	w.made++
	b := block{p: p, size: size, usable: hakmem.UsableSize(p)}
	b.key = keyOf(p, w.seed^uint64(w.id)<<40^w.made)
	if b.usable < size || uintptr(p)%16 != 0 {
		w.fail(w.t, "worker %d: %v, %d were asked for", w.id, &b, size)
	}
	write(b.p, b.usable, b.key)
	return b
}

// allocate returns a new block, or ok = false where a limit refuses it.
func (w *worker) allocate() (b block, ok bool) {
	size := testkit.RandomSize(w.r)
	malloc, calloc := hakmem.Malloc, hakmem.Calloc
	if w.heap != nil {
		malloc, calloc = w.heap.Malloc, w.heap.Calloc
	}
	var p unsafe.Pointer
	zero := false
	switch w.r.UintN(20) {
	case 0:
		p = hakmem.MallocAt(w.sites[w.r.UintN(2)], size)
	case 1:
		p, zero = calloc(1, size), true
	case 2:
		align := uintptr(1) << w.r.UintN(17)
		if p = hakmem.AlignedAlloc(align, size); uintptr(p)%align != 0 {
			w.fail(w.t, "worker %d: AlignedAlloc(%d, %d) = %p", w.id, align, size, p)
		}
	case 3:
		if !w.limited { // it panics instead of returning nil
			p, zero = unsafe.Pointer(unsafe.SliceData(hakmem.MakeSlice[int32](int(size/4), int(size/4)))), true
			size &^= 3
			break
		}
		p = malloc(size)
	default:
		p = malloc(size)
	}
	if p == nil {
		if !w.limited {
			w.fail(w.t, "worker %d: no block of %d bytes: %v", w.id, size, hakmem.Err())
		}
		return block{}, false
	}
	if zero && !isZero(p, size) {
		w.fail(w.t, "worker %d: %d bytes at %p are not zero", w.id, size, p)
	}
	return w.own(p, size), true
}

// cut takes a piece from the worker's Arena, or ends all its pieces.
func (w *worker) cut() {
	if n := len(w.pieces); n == 64 || n > 0 && w.r.UintN(100) == 0 { // 64 pieces fill some chunks; now and then sooner
		for i := range w.pieces {
			w.verify(&w.pieces[i])
		}
		w.pieces = w.pieces[:0]
		if w.r.UintN(4) == 0 {
			w.arena.Close()
			w.arena = hakmem.NewArena()
			return
		}
		w.arena.Reset()
		return
	}
	n := 1 + uintptr(w.r.UintN(3000))
	var b block
	if v := testkit.PanicOf(func() { b.p = w.arena.Alloc(n, 8) }); v != nil {
		if _, oom := v.(*hakmem.OutOfMemoryError); !oom || !w.limited {
			w.fail(w.t, "worker %d: Arena.Alloc: %v", w.id, v)
		}
		return
	}
	w.made++
	b.size, b.usable, b.key = n, n, keyOf(b.p, w.seed^uint64(w.id)<<40^w.made)
	write(b.p, n, b.key)
	w.pieces = append(w.pieces, b)
}

func (w *worker) realloc(b *block) {
	realloc := hakmem.Realloc
	if w.heap != nil {
		realloc = w.heap.Realloc
	}
	size := testkit.RandomSize(w.r)
	p := realloc(b.p, size)
	if p == nil {
		if !w.limited {
			w.fail(w.t, "worker %d: Realloc(%d) = nil: %v", w.id, size, hakmem.Err())
		}
		return
	}
	if !intact(p, b.usable, min(b.usable, size), b.key) {
		w.fail(w.t, "worker %d: Realloc(%v, %d) = %p lost the contents", w.id, b, size, p)
	}
	w.whole++
	*b = w.own(p, size)
}

// live is one goroutine of the worker.
func (w *worker) live() {
	defer w.done.Done()
	w.lives.Add(1)
	if w.id%5 == 4 { // some goroutines change threads, too
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	for n := min(w.left, w.lifetime); n > 0 && w.bad.Load() == 0; n-- {
		w.left--
		select {
		case b, ok := <-w.inbox:
			if ok { // otherwise the channel is closed: always ready, and empty
				w.release(b)
			}
		default:
		}
		b := &w.held[w.r.UintN(uint(len(w.held)))]
		if b.p == nil {
			if w.r.UintN(8) == 0 {
				w.cut()
			} else if x, ok := w.allocate(); ok {
				*b = x
			}
			continue
		}
		switch w.r.UintN(8) {
		case 0: // another worker frees it
			select {
			case w.outbox <- *b:
			default:
				w.release(*b)
			}
		case 1:
			w.realloc(b)
			continue
		default:
			w.release(*b)
		}
		*b = block{}
	}
	w.verified.Add(w.whole)
	w.whole = 0
	if w.left > 0 && w.bad.Load() == 0 {
		if w.heap != nil && w.r.UintN(4) == 0 {
			w.heap.Close()
			w.newHeap()
		}
		w.done.Add(1)
		go w.live()
		return
	}
	close(w.outbox)
	for _, b := range w.held {
		if b.p != nil {
			w.release(b)
		}
	}
	for b := range w.inbox {
		w.release(b)
	}
	for i := range w.pieces {
		w.verify(&w.pieces[i])
	}
	w.arena.Close()
	if w.heap != nil {
		w.heap.Close()
	}
	w.verified.Add(w.whole)
}

// newHeap gives the worker a Heap, or none if there is no memory for it.
func (w *worker) newHeap() {
	w.heap = nil
	if v := testkit.PanicOf(func() { w.heap = hakmem.NewHeap() }); v != nil {
		if _, oom := v.(*hakmem.OutOfMemoryError); !oom || !w.limited {
			w.fail(w.t, "worker %d: NewHeap panicked with %v", w.id, v)
		}
	}
}

// refusing makes one call of the system in n fail, the first one in any case.
func refusing(n int, seed uint64) *testkit.Refusals {
	r := rand.New(rand.NewPCG(seed, 6))
	return testkit.Refuse(func(c testkit.Call) bool { return c.Nth == 1 || r.IntN(n) == 0 })
}

// total counts the verified blocks of all runs of the process.
var total atomic.Uint64

// run starts the workers in a ring and waits for them. Meanwhile it calls each of the disturbers
// repeatedly.
func (s *stress) run(t *testing.T, disturbers ...func(i int)) {
	t.Helper()
	_, hard := hakmem.MemoryLimit()
	s.limited = s.limited || hard != 0 || s.refused > 0
	s.lifetime = min(longestLife, s.ops/s.workers/leastLives+1)
	var wg, others sync.WaitGroup
	var done atomic.Bool
	if s.refused > 0 {
		hakmem.Free(hakmem.Malloc(1)) // without a region nothing would work
		calls := refusing(s.refused, s.seed)
		defer func() {
			if t.Logf("%d calls of the system refused", calls.Total()); calls.Total() == 0 {
				t.Error("no call of the system was refused")
			}
		}()
	}
	boxes := make([]chan block, s.workers)
	for i := range boxes {
		boxes[i] = make(chan block, 64)
	}
	for i := range s.workers {
		w := &worker{stress: s, t: t, id: i, r: rand.New(rand.NewPCG(s.seed, uint64(i))), left: max(s.ops/s.workers, 1),
			inbox: boxes[i], outbox: boxes[(i+1)%s.workers], done: &wg, arena: hakmem.NewArena()}
		if i%3 == 1 { // a third of them through a Heap
			w.newHeap()
		}
		for k := range w.sites {
			w.sites[k] = hakmem.RegisterSite(fmt.Sprintf("stress %d", (i+k)%5))
		}
		wg.Add(1)
		go w.live()
	}
	for _, d := range disturbers {
		others.Go(func() {
			for i := 0; !done.Load(); i++ {
				d(i)
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
	done.Store(true)
	others.Wait()
	if s.refused > 0 {
		hakmem.Trim() // the first call, if there was none yet
		osmem.Inject(nil)
		hakmem.Trim() // pages that were left without memory come back
	}
	if s.bad.Load() == 0 {
		checkQuiescent(t)
		// Even if a limit refuses some allocations.
		if n := s.verified.Load(); n < uint64(s.ops)/100 {
			t.Errorf("%d operations, but only %d blocks verified", s.ops, n)
		}
	}
	t.Logf("seed %d: %d blocks verified by %d goroutines; %d in all tests so far", s.seed, s.verified.Load(), s.lives.Load(), total.Add(s.verified.Load()))
}

// procs sets GOMAXPROCS for the rest of the test.
func procs(t *testing.T, n int) {
	old := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

func trimming(int) { hakmem.Trim() }

// reading keeps its Stats, as a program that monitors itself would. Counts change while they are
// read, but none may go below 0, which would be near 2^64.
func reading(t *testing.T) func(int) {
	var s hakmem.Stats
	return func(int) {
		hakmem.ReadStats(&s)
		const absurd = 1 << 50
		if s.Live > absurd || s.LiveBlocks > absurd || s.InMagazines > absurd {
			t.Errorf("%d bytes in %d blocks live, %d in magazines", s.Live, s.LiveBlocks, s.InMagazines)
		}
		for _, c := range s.Classes {
			if c.Live > absurd || c.Free > absurd || c.InMagazines > absurd || c.FrontHits > absurd {
				t.Errorf("below 0: %+v", c)
			}
		}
	}
}

// limiting changes the memory limits all the time, down to a limit that refuses most allocations.
// The caller restores them.
func limiting(i int) {
	hard := []uint64{0, 64 << 20, 4 << 20, 16 << 20}[i%4]
	_ = hakmem.SetMemoryLimit(hard/2, hard)
}

// walking looks at every live block, while other goroutines free some of them.
func walking(t *testing.T) func(int) {
	return func(int) {
		for b := range hakmem.LiveBlocks() {
			if b.Addr%16 != 0 || b.Arena && b.Site != 0 {
				t.Errorf("LiveBlocks yields %+v", b)
				return
			}
		}
	}
}

func changing(i int) { runtime.GOMAXPROCS([]int{1, 2, 7, 64, 3, 1, 16, 2}[i%8]) }

func TestStress(t *testing.T) {
	for _, n := range []int{1, 2, 7, 64} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", n), func(t *testing.T) {
			procs(t, n)
			s := stress{workers: 8, ops: stressOps(t), seed: uint64(n)}
			s.run(t)
		})
		t.Run(fmt.Sprintf("GOMAXPROCS=%d disturbed", n), func(t *testing.T) {
			procs(t, n)
			s := stress{workers: 8, ops: stressOps(t), seed: uint64(100 + n)}
			s.run(t, trimming, reading(t), walking(t))
		})
	}
	// Ps vanish with blocks in their magazines and come back. No block may be lost.
	t.Run("GOMAXPROCS changing", func(t *testing.T) {
		procs(t, runtime.GOMAXPROCS(0))
		s := stress{workers: 8, ops: stressOps(t), seed: 11}
		s.run(t, changing)
	})
	t.Run("GOMAXPROCS changing, disturbed", func(t *testing.T) {
		procs(t, runtime.GOMAXPROCS(0))
		s := stress{workers: 8, ops: stressOps(t), seed: 12}
		s.run(t, changing, trimming, reading(t), walking(t))
	})
	t.Run("calls refused", func(t *testing.T) {
		procs(t, runtime.GOMAXPROCS(0))
		s := stress{workers: 8, ops: stressOps(t), seed: 16, refused: 5}
		s.run(t, changing, trimming, reading(t), walking(t))
	})
	t.Run("limits changing, calls refused", func(t *testing.T) {
		soft, hard := hakmem.MemoryLimit()
		defer hakmem.SetMemoryLimit(soft, hard)
		s := stress{workers: 8, ops: stressOps(t), seed: 17, refused: 5}
		s.run(t, limiting, trimming, reading(t))
	})
	t.Run("limits changing", func(t *testing.T) {
		soft, hard := hakmem.MemoryLimit()
		defer hakmem.SetMemoryLimit(soft, hard)
		s := stress{workers: 8, ops: stressOps(t), seed: 15, limited: true}
		s.run(t, limiting, reading(t))
	})
}

// TestStressManyGoroutines has far more goroutines than Ps, so that each is stopped in the middle
// of its work and continues elsewhere.
func TestStressManyGoroutines(t *testing.T) {
	procs(t, 4)
	s := stress{workers: 300, ops: stressOps(t), seed: 13}
	s.run(t, trimming)
}

// aloneVar is set in a process that runs one test.
const aloneVar = "HAKMEM_PROOF_ALONE"

// TestStressMorePsThanFronts has more Ps than there are fronts: the Ps without a front share locked
// ones. It has a process of its own, because fronts stay: each look at a thousand of them takes a
// millisecond, and the fuzz targets that follow look some thousand times.
func TestStressMorePsThanFronts(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: -short; 1100 Ps")
	}
	if os.Getenv(aloneVar) == "" {
		ctx, stop := untilDeadline(t)
		defer stop()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), aloneVar+"=1")
		out, err := cmd.CombinedOutput()
		if t.Logf("%s", out); err != nil {
			t.Error(err)
		}
		return
	}
	procs(t, 1100)
	s := stress{workers: 2000, ops: stressOps(t), seed: 14}
	s.run(t)
}

// TestStressVanishingPs fills the magazines of many Ps, takes the Ps away, and checks that Trim
// brings their blocks back.
func TestStressVanishingPs(t *testing.T) {
	procs(t, 16)
	for round := range 5 {
		s := stress{workers: 16, ops: stressOps(t) / 5, seed: uint64(20 + round)}
		s.run(t)
		runtime.GOMAXPROCS(1)
		hakmem.Trim()
		var now hakmem.Stats
		if hakmem.ReadStats(&now); now.InMagazines != 0 || now.Fronts != 0 {
			t.Fatalf("after Trim: %d bytes in magazines, %d fronts", now.InMagazines, now.Fronts)
		}
		runtime.GOMAXPROCS(16)
	}
}

// TestStressProducersAndConsumers moves every block of one class from producers to consumers.
// Blocks are always freed by goroutines that do not lease their slab, and Heaps are made, handed to
// the consumer and closed.
func TestStressProducersAndConsumers(t *testing.T) {
	type batch struct {
		blocks [100]block
		heap   *hakmem.Heap
	}
	var verified atomic.Uint64
	for _, size := range []uintptr{16, 256, 1024, 4000, 20000} {
		ch := make(chan *batch, 8)
		var producers, consumers sync.WaitGroup
		batches := stressOps(t) / (5 * 3 * 100)
		for g := range uint64(3) {
			producers.Go(func() {
				for i := range uint64(batches) {
					b := &batch{}
					malloc := hakmem.Malloc
					if i%8 == 0 {
						b.heap = hakmem.NewHeap()
						malloc = b.heap.Malloc
					}
					for j := range b.blocks {
						p := malloc(size)
						if p == nil {
							t.Errorf("no block of %d bytes: %v", size, hakmem.Err())
							break
						}
						b.blocks[j] = block{p: p, usable: size, key: keyOf(p, g<<40|i<<8|uint64(j))}
						write(p, size, b.blocks[j].key)
					}
					ch <- b
				}
			})
			consumers.Go(func() {
				for b := range ch {
					free := hakmem.Free
					if b.heap != nil {
						free = b.heap.Free
					}
					for j := range b.blocks {
						x := &b.blocks[j]
						if x.p != nil && !intact(x.p, size, size, x.key) {
							t.Errorf("%v is damaged", x)
						}
						free(x.p)
					}
					if b.heap != nil {
						b.heap.Close()
					}
					verified.Add(uint64(len(b.blocks)))
				}
			})
		}
		producers.Wait()
		close(ch)
		consumers.Wait()
	}
	checkQuiescent(t)
	t.Logf("%d blocks verified; %d in all tests so far", verified.Load(), total.Add(verified.Load()))
}
