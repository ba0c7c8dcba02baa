package hakmem_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"

	"github.com/hakmem/hakmem"
)

// dropHeaps makes n Heaps, uses them, and drops them without Close. Their magazines hold blocks,
// and each has a lease for each class.
//
//go:noinline
func dropHeaps(n int) {
	for range n {
		h := hakmem.NewHeap()
		for _, k := range workout.Kinds {
			p, q := h.Malloc(k.Size), h.Malloc(k.Size)
			h.Free(p)
			h.Free(q)
		}
	}
}

//go:noinline
func dropArenas(n int) {
	for range n {
		a := hakmem.NewArena()
		a.Alloc(100_000, 8)
		*hakmem.NewIn[int](a) = 1
		hakmem.NewArena() // never used, so not counted
	}
}

// collected runs the garbage collector until done reports true. If that does not happen, it returns
// what is missing.
func collected(done func(*hakmem.Stats) bool) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		if s := workout.ReadStats(); done(&s) {
			return nil
		} else if time.Now().After(end) {
			return fmt.Errorf("abandoned: %+v; %d fronts, live %d, in magazines %d", s.Abandoned, s.Fronts, s.Live, s.InMagazines)
		}
	}
}

// noFronts waits until no front is in use: the Heaps that other tests dropped are given back, and
// those of Ps as well.
func noFronts(t *testing.T) {
	t.Helper()
	if err := collected(func(*hakmem.Stats) bool { hakmem.Trim(); return workout.ReadStats().Fronts == 0 }); err != nil {
		t.Fatal(err)
	}
}

var _ = testkit.Child("abandoned", abandonedOnes)

func abandonedOnes(string) error {
	closed, arena := hakmem.NewHeap(), hakmem.NewArena()
	closed.Free(closed.Malloc(100))
	arena.Alloc(100, 1)
	closed.Close()
	arena.Close()
	keep := hakmem.NewHeap()
	kept := keep.Malloc(100)
	testkit.Fill(kept, 100, 1)
	base := workout.ReadStats()
	if base.Abandoned != (hakmem.AbandonedStats{}) || hakmem.Err() != nil {
		return fmt.Errorf("at the start: %+v, %w", base.Abandoned, hakmem.Err())
	}
	dropHeaps(10)
	if err := collected(func(s *hakmem.Stats) bool { return s.Abandoned.Heaps == 10 && s.Fronts == base.Fronts }); err != nil {
		return err
	}
	hakmem.Trim() // gives back the blocks in shared caches; it does not reach into a Heap's front
	s := workout.ReadStats()
	if s.Live != base.Live || s.InMagazines > base.InMagazines || s.Large.CachedBlocks > base.Large.CachedBlocks {
		return fmt.Errorf("after Heaps: live %d, in magazines %d, %d warm spans; before %d, %d, %d", s.Live, s.InMagazines, s.Large.CachedBlocks, base.Live, base.InMagazines, base.Large.CachedBlocks)
	}
	dropArenas(10)
	if err := collected(func(s *hakmem.Stats) bool { return s.Abandoned.Arenas == 10 && s.Live == base.Live }); err != nil {
		return err
	}
	if s := workout.ReadStats(); s.Abandoned.Heaps != 10 || s.LiveBlocks != base.LiveBlocks {
		return fmt.Errorf("after Arenas: %+v, %d live blocks, before %d", s.Abandoned, s.LiveBlocks, base.LiveBlocks)
	}
	// Err reports the first of each kind and where it was made.
	text := fmt.Sprint(hakmem.Err())
	for _, want := range []string{"the Heap at 0x", "dropHeaps (", "Close each Heap", "the Arena at 0x", "dropArenas (", "Close each Arena", "abandon_test.go:"} {
		if !strings.Contains(text, want) {
			return fmt.Errorf("no %q in Err: %s", want, text)
		}
	}
	if n := len(workout.ReadStats().Errors); n != 2 {
		return fmt.Errorf("%d errors: %s", n, text)
	}
	if !testkit.Intact(kept, 100, 1) {
		return errors.New("a block of an open Heap was changed")
	}
	keep.Free(kept)
	keep.Close()
	runtime.KeepAlive(closed)
	runtime.KeepAlive(arena)
	return nil
}

func TestAbandoned(t *testing.T) {
	testkit.InChild(t, "abandoned", "")
	testkit.InChild(t, "abandoned", "", "HAKMEM_HARDEN=1") // the blocks in the Heap's quarantine are not lost
	testkit.InChild(t, "abandoned", "", "HAKMEM_GUARD=1/20")
}

// TestAbandonedInTheLastCall checks a Heap that the collector finds dead while its last call runs.
// It needs a process of its own because it leaves thousands of fronts.
func TestAbandonedInTheLastCall(t *testing.T) { testkit.InChild(t, "abandoned in the last call", "") }

var _ = testkit.Child("abandoned in the last call", abandonedInTheLastCall)

func abandonedInTheLastCall(string) error {
	before := workout.ReadStats()
	rounds := 300
	if testkit.Race {
		rounds = 60
	}
	var bad atomic.Pointer[string]
	check := func(b workout.Block) {
		if !testkit.Intact(b.P, b.Size, b.Key) {
			s := fmt.Sprintf("%v: its contents were changed", b)
			bad.Store(&s)
		}
	}
	var wg, gc sync.WaitGroup
	stop := make(chan struct{})
	gc.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	const goroutines = 4
	for g := range uint64(goroutines) {
		wg.Go(func() {
			var last []workout.Block
			for i := range rounds {
				h := hakmem.NewHeap()
				size := workout.Kinds[i%(len(workout.Kinds)-4)].Size
				var blocks []workout.Block
				for j := range 100 {
					b := workout.Block{P: h.Malloc(size), Size: size, Key: g<<32 + uint64(i*100+j)}
					testkit.Fill(b.P, size, b.Key)
					blocks = append(blocks, b)
				}
				for _, b := range blocks[1:50] {
					h.Free(b.P)
				}
				for range 20 {
					h.Free(h.Malloc(size))
				}
				// h is dead from here on. Now Heaps whose only call is a slow one:
				last = append(last, blocks[0])
				for j, b := range blocks[50:] {
					check(b)
					switch j % 10 {
					case 0:
						hakmem.NewHeap().Free(b.P)
						b.P = hakmem.NewHeap().Malloc(size)
						testkit.Fill(b.P, size, b.Key)
						last = append(last, b)
					default:
						hakmem.Free(b.P)
					}
				}
				if len(last) > 50 {
					if a, b, yes := workout.Overlapping(last); yes {
						s := fmt.Sprintf("%v overlaps %v", a, b)
						bad.Store(&s)
					}
					for _, b := range last {
						check(b)
						hakmem.Free(b.P)
					}
					last = last[:0]
				}
			}
			for _, b := range last {
				check(b)
				hakmem.Free(b.P)
			}
		})
	}
	wg.Wait()
	close(stop)
	gc.Wait()
	want := before.Abandoned.Heaps + goroutines*11*uint64(rounds)
	if s := bad.Load(); s != nil {
		return errors.New(*s)
	}
	if err := collected(func(s *hakmem.Stats) bool {
		return s.Abandoned.Heaps >= want && s.Fronts <= before.Fronts+runtime.GOMAXPROCS(0)
	}); err != nil {
		return fmt.Errorf("%w; want %d Heaps", err, want)
	}
	after := workout.ReadStats()
	if after.Live != before.Live || after.LateDoubleFrees != before.LateDoubleFrees {
		return fmt.Errorf("live %d, %d late double frees; before %d, %d", after.Live, after.LateDoubleFrees, before.Live, before.LateDoubleFrees)
	}
	return nil
}

// gate is a writer whose Write blocks while the gate is closed.
type gate struct {
	sync.Mutex
	waits chan bool
}

func (g *gate) Write(b []byte) (int, error) {
	select {
	case g.waits <- true:
	default:
	}
	g.Lock()
	defer g.Unlock()
	return len(b), nil
}

// TestSlowPathKeepsItsHeap checks that a Heap is not abandoned while its last call waits for a
// trace's writer.
func TestSlowPathKeepsItsHeap(t *testing.T) {
	for name, call := range map[string]func(h *hakmem.Heap, p unsafe.Pointer){
		"Free":    func(h *hakmem.Heap, p unsafe.Pointer) { h.Free(p) },
		"Realloc": func(h *hakmem.Heap, p unsafe.Pointer) { hakmem.Free(h.Realloc(p, 5000)) },
	} {
		before := workout.ReadStats().Abandoned.Heaps
		g := &gate{waits: make(chan bool, 1)}
		if err := hakmem.StartTrace(g); err != nil {
			t.Fatal(err)
		}
		<-g.waits // the first line
		p := hakmem.Malloc(100)
		g.Lock()
		var wg sync.WaitGroup
		wg.Go(func() { // until the writer is called
			for range 2000 {
				hakmem.Free(hakmem.Malloc(10))
			}
		})
		<-g.waits
		wg.Go(func() { call(hakmem.NewHeap(), p) })
		for range 20 { // until the call waits for the trace's lock
			time.Sleep(time.Millisecond)
			runtime.GC()
		}
		time.Sleep(10 * time.Millisecond)
		if n := workout.ReadStats().Abandoned.Heaps - before; n != 0 {
			t.Errorf("%s: the Heap was given up during the call", name)
		}
		g.Unlock()
		wg.Wait()
		if err := collected(func(s *hakmem.Stats) bool { return s.Abandoned.Heaps > before }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := hakmem.StopTrace(); err != nil {
			t.Error(err)
		}
	}
}
