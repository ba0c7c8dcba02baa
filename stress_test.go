package hakmem_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// Stress: goroutines that allocate, write, hand blocks to each other, verify
// and free, while others trim, read statistics and change GOMAXPROCS. Bounded
// by operation counts.

// randomSize is mostly tiny, sometimes mid, rarely a span.
func randomSize(r *rand.Rand) uintptr {
	switch n := r.UintN(1000); {
	case n < 900:
		return uintptr(r.UintN(1025))
	case n < 990:
		return uintptr(1025 + r.UintN(31<<10))
	case n < 999:
		return uintptr(32<<10 + r.UintN(200<<10))
	}
	return uintptr(r.UintN(3 << 20))
}

// mark fills a block: wholly when small, else where it begins and ends and at
// every page, so that the cost stays with the allocator.
func mark(b block) {
	if b.size <= 4096 {
		fill(b.p, b.size, b.key)
		return
	}
	for off := uintptr(0); off < b.size-8; off += 4096 {
		*(*uint64)(unsafe.Add(b.p, off)) = b.key + uint64(off)
	}
	*(*byte)(unsafe.Add(b.p, b.size-1)) = byte(b.key)
}

func marked(b block) bool {
	if b.size <= 4096 {
		return intact(b.p, b.size, b.key)
	}
	for off := uintptr(0); off < b.size-8; off += 4096 {
		if *(*uint64)(unsafe.Add(b.p, off)) != b.key+uint64(off) {
			return false
		}
	}
	return *(*byte)(unsafe.Add(b.p, b.size-1)) == byte(b.key)
}

// stress is one run: workers goroutines of ops operations each.
type stress struct {
	workers, ops int
	seed         uint64
	bad          atomic.Int32
}

func (s *stress) fail(t *testing.T, format string, args ...any) {
	if s.bad.Add(1) <= 5 { // the first few tell enough
		t.Errorf(format, args...)
	}
}

// worker does its operations and frees all it holds. Its inbox is drained until
// it is closed; outbox gets a part of its blocks.
func (s *stress) worker(t *testing.T, id int, inbox <-chan block, outbox chan<- block) {
	r := rand.New(rand.NewPCG(s.seed, uint64(id)))
	malloc, free, calloc, realloc := hakmem.Malloc, hakmem.Free, hakmem.Calloc, hakmem.Realloc
	if id%3 == 1 { // a third of them through a Heap
		h := hakmem.NewHeap()
		defer h.Close()
		malloc, free, calloc, realloc = h.Malloc, h.Free, h.Calloc, h.Realloc
	}
	site := hakmem.RegisterSite(fmt.Sprintf("stress %d", id%5))
	release := func(b block) {
		if !marked(b) {
			s.fail(t, "worker %d: %v is damaged", id, b)
		}
		if u := hakmem.UsableSize(b.p); u < b.size {
			s.fail(t, "worker %d: %v has %d usable bytes", id, b, u)
		}
		free(b.p)
	}
	var held [128]block
	for i := range s.ops {
		if s.bad.Load() != 0 {
			break
		}
		select {
		case b, ok := <-inbox:
			if ok { // else it is closed: ready for ever, and empty
				release(b)
			}
		default:
		}
		slot := &held[r.UintN(uint(len(held)))]
		if slot.p != nil {
			switch r.UintN(8) {
			case 0: // another worker frees it
				select {
				case outbox <- *slot:
				default:
					release(*slot)
				}
			case 1:
				if !marked(*slot) {
					s.fail(t, "worker %d: %v is damaged", id, *slot)
				}
				size := randomSize(r)
				p := realloc(slot.p, size)
				if p == nil {
					s.fail(t, "worker %d: Realloc(%d) = nil: %v", id, size, hakmem.Err())
					continue
				}
				slot.p, slot.size = p, size
				mark(*slot)
				continue
			default:
				release(*slot)
			}
			*slot = block{}
			continue
		}
		b := block{size: randomSize(r), key: uint64(id)<<40 | uint64(i)}
		switch r.UintN(16) {
		case 0:
			b.p = hakmem.MallocAt(site, b.size)
		case 1:
			if b.p = calloc(1, b.size); b.p != nil && !isZero(b.p, b.size) {
				s.fail(t, "worker %d: Calloc(%d) at %p is not zero", id, b.size, b.p)
			}
		case 2:
			align := uintptr(1) << r.UintN(17)
			if b.p = hakmem.AlignedAlloc(align, b.size); uintptr(b.p)%align != 0 {
				s.fail(t, "worker %d: AlignedAlloc(%d, %d) = %p", id, align, b.size, b.p)
			}
		default:
			b.p = malloc(b.size)
		}
		if b.p == nil {
			s.fail(t, "worker %d: no block of %d bytes: %v", id, b.size, hakmem.Err())
			continue
		}
		mark(b)
		*slot = b
	}
	close(outbox)
	for _, b := range held {
		if b.p != nil {
			release(b)
		}
	}
	for b := range inbox {
		release(b)
	}
}

// run starts the workers in a ring and waits for them. Meanwhile it calls each
// of the disturbers again and again.
func (s *stress) run(t *testing.T, disturbers ...func(i int)) {
	t.Logf("seed %d", s.seed)
	base := readStats()
	var wg, others sync.WaitGroup
	var done atomic.Bool
	boxes := make([]chan block, s.workers)
	for i := range boxes {
		boxes[i] = make(chan block, 64)
	}
	for i := range s.workers {
		wg.Go(func() { s.worker(t, i, boxes[i], boxes[(i+1)%s.workers]) })
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
	now := readStats()
	if now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("all freed: live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
	if now.Spans.LiveBlocks != base.Spans.LiveBlocks || now.LateDoubleFrees != base.LateDoubleFrees {
		t.Errorf("%d live spans, %d late double frees; before %d, %d", now.Spans.LiveBlocks, now.LateDoubleFrees, base.Spans.LiveBlocks, base.LateDoubleFrees)
	}
	for i, c := range now.Classes {
		if c.Live != base.Classes[i].Live {
			t.Errorf("class %d: %d live blocks, before %d", c.Size, c.Live, base.Classes[i].Live)
		}
	}
	for i, x := range base.Sites {
		if now.Sites[i].LiveBlocks != x.LiveBlocks || now.Sites[i].LiveBytes != x.LiveBytes {
			t.Errorf("site %q: %+v, before %+v", x.Name, now.Sites[i], x)
		}
	}
}

func stressOps() int {
	switch {
	case testing.Short():
		return 20_000
	case raceEnabled:
		return 400_000
	}
	return 4_000_000
}

// procs sets GOMAXPROCS for the rest of the test.
func procs(t *testing.T, n int) {
	old := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

func trimming(int) { hakmem.Trim() }

// reading keeps its Stats, as a program that watches itself would.
func reading() func(int) {
	var s hakmem.Stats
	return func(int) { hakmem.ReadStats(&s) }
}

func TestStress(t *testing.T) {
	for _, n := range []int{1, 2, 7, 64} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", n), func(t *testing.T) {
			procs(t, n)
			s := stress{workers: 8, ops: stressOps() / 8, seed: uint64(n)}
			s.run(t)
		})
		t.Run(fmt.Sprintf("GOMAXPROCS=%d with Trim and ReadStats", n), func(t *testing.T) {
			procs(t, n)
			s := stress{workers: 8, ops: stressOps() / 8, seed: uint64(100 + n)}
			s.run(t, trimming, reading())
		})
	}
}

// TestStressWhileGOMAXPROCSChanges: Ps vanish with blocks in their magazines
// and come back; none is lost.
func TestStressWhileGOMAXPROCSChanges(t *testing.T) {
	changing := func(i int) { runtime.GOMAXPROCS([]int{1, 2, 7, 64, 3, 1, 16, 2}[i%8]) }
	t.Run("alone", func(t *testing.T) {
		procs(t, runtime.GOMAXPROCS(0))
		s := stress{workers: 8, ops: stressOps() / 8, seed: 11}
		s.run(t, changing)
	})
	t.Run("with Trim and ReadStats", func(t *testing.T) {
		procs(t, runtime.GOMAXPROCS(0))
		s := stress{workers: 8, ops: stressOps() / 8, seed: 12}
		s.run(t, changing, trimming, reading())
	})
}

// TestStressManyGoroutines has far more goroutines than Ps, so that each is
// stopped within its work and goes on elsewhere.
func TestStressManyGoroutines(t *testing.T) {
	procs(t, 4)
	s := stress{workers: 300, ops: stressOps() / 300, seed: 13}
	s.run(t, trimming)
}

// TestStressMorePsThanFronts: with more Ps than there are fronts the rest share
// locked ones.
func TestStressMorePsThanFronts(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: -short; 1100 Ps")
	}
	procs(t, 1100)
	s := stress{workers: 2000, ops: stressOps() / 2000, seed: 14}
	s.run(t)
}

// TestStressVanishingPs fills the magazines of many Ps, takes the Ps away and
// wants their blocks back by Trim.
func TestStressVanishingPs(t *testing.T) {
	procs(t, 16)
	for round := range 5 {
		s := stress{workers: 16, ops: 3000, seed: uint64(20 + round)}
		s.run(t)
		runtime.GOMAXPROCS(1)
		hakmem.Trim()
		if now := readStats(); now.InMagazines != 0 || now.Fronts != 0 {
			t.Fatalf("after Trim: %d bytes in magazines, %d fronts", now.InMagazines, now.Fronts)
		}
		runtime.GOMAXPROCS(16)
	}
}

// TestStressHeapsComeAndGo: Heaps made, handed to another goroutine, closed.
func TestStressHeapsComeAndGo(t *testing.T) {
	base := readStats()
	heaps := make(chan *hakmem.Heap, 4)
	blocks := make(chan block, 256)
	rounds := stressOps() / 200
	var wg, last sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(30, g))
			for i := range uint64(rounds / 4) {
				h := hakmem.NewHeap()
				for range 20 {
					b := block{size: uintptr(r.UintN(3000)), key: g<<40 | i}
					b.p = h.Malloc(b.size)
					mark(b)
					blocks <- b
				}
				heaps <- h
			}
		})
	}
	for range 2 {
		last.Go(func() {
			for h := range heaps {
				for range 20 {
					b := <-blocks
					if !marked(b) {
						t.Errorf("%v is damaged", b)
					}
					h.Free(b.p)
				}
				h.Close()
			}
		})
	}
	wg.Wait()
	close(heaps)
	last.Wait()
	if now := readStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks || now.Fronts > base.Fronts+runtime.GOMAXPROCS(0) {
		t.Errorf("live %d bytes in %d blocks, %d fronts; before %d in %d, %d", now.Live, now.LiveBlocks, now.Fronts, base.Live, base.LiveBlocks, base.Fronts)
	}
}

// TestStressProducersAndConsumers moves every block of one class from producers
// to consumers: slabs are always freed by others than their leaseholders.
func TestStressProducersAndConsumers(t *testing.T) {
	base := readStats()
	for _, size := range []uintptr{16, 256, 1024, 4000, 20000} {
		ch := make(chan []block, 8)
		var producers, consumers sync.WaitGroup
		batches := stressOps() / 3000
		for g := range uint64(3) {
			producers.Go(func() {
				for i := range uint64(batches) {
					batch := make([]block, 100)
					for j := range batch {
						batch[j] = block{hakmem.Malloc(size), size, g<<40 | i<<8 | uint64(j)}
						*(*uint64)(batch[j].p) = batch[j].key
					}
					ch <- batch
				}
			})
			consumers.Go(func() {
				for batch := range ch {
					for _, b := range batch {
						if *(*uint64)(b.p) != b.key {
							t.Errorf("%v has another's key", b)
						}
						hakmem.Free(b.p)
					}
				}
			})
		}
		producers.Wait()
		close(ch)
		consumers.Wait()
	}
	if now := readStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
}
