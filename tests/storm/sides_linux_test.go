package storm_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Storms: a million failed allocations from several goroutines, for each possible reason, and then
// normal work. Speed is measured by counting, without a clock: how many slow paths and system calls
// a loop of allocations needs before the storm and after it.

// stormReasons are the reasons for which memory can run out. Each function makes it run out once
// some is in use. It returns undo, which makes memory available again.
var stormReasons = map[string]func() (undo func() error, err error){
	"memory limit": func() (func() error, error) {
		return func() error { return hakmem.SetMemoryLimit(0, 0) }, hakmem.SetMemoryLimit(0, 24<<20)
	},
	"commits refused": func() (func() error, error) {
		testkit.RefuseOp(osmem.OpCommit, func(int) bool { return true })
		return func() error { osmem.Inject(nil); return nil }, nil
	},
	"any call refused": func() (func() error, error) {
		osmem.Inject(func(osmem.Op) error { return osmem.ErrInjected })
		return func() error { osmem.Inject(nil); return nil }, nil
	},
	"region full": func() (func() error, error) { // workout.SmallRegion makes it so
		return func() error { return nil }, nil
	},
	// Here the kernel itself refuses: RLIMIT_DATA counts writable private memory, but not a
	// reservation.
	"RLIMIT_DATA": func() (func() error, error) {
		var old syscall.Rlimit
		if err := syscall.Getrlimit(rlimitData, &old); err != nil {
			return nil, err
		}
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(string(b), "VmData:")
		kib, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return nil, err
		}
		// The limit leaves room for less than a superslab, which is what hakmem will ask for. The
		// room is for Go, which stops the program when it is refused memory.
		err = syscall.Setrlimit(rlimitData, &syscall.Rlimit{Cur: kib<<10 + 1900<<10, Max: old.Max})
		return func() error { return syscall.Setrlimit(rlimitData, &old) }, err
	},
}

const rlimitData = 2 // RLIMIT_DATA on Linux; package syscall does not name it on every architecture

var _ = testkit.Child("storm from all sides", stormFromAllSides)

// stormFromAllSides runs one storm. arg is the reason and the number of failures.
func stormFromAllSides(arg string) error {
	const goroutines = 4
	arg, number, _ := strings.Cut(arg, "/")
	failures, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return err
	}
	engine.SetClock(testkit.Stopped{}) // else the scavenger's work would be counted with the loop's
	usual, err := pace()
	if err != nil {
		return err
	}
	hakmem.Trim()
	goGarbage()
	var heaps [goroutines]*hakmem.Heap
	for g := range heaps {
		heaps[g] = hakmem.NewHeap()
	}
	spareFronts()
	before := workout.ReadStats()
	undo, err := stormReasons[arg]()
	if err != nil {
		return err
	}
	bytesWas, objectsWas := goMemory()
	goroutinesWas := runtime.NumGoroutine()
	var failed atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var problem error
	var blocks [goroutines][]workout.Block
	release := make(chan bool)
	var full sync.WaitGroup
	full.Add(goroutines)
	for g := range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 6))
			malloc, free, calloc := hakmem.Malloc, hakmem.Free, hakmem.Calloc
			if v := testkit.PanicOf(func() {
				h := heaps[g]
				defer h.Close()
				if g%2 == 1 {
					malloc, free, calloc = h.Malloc, h.Free, h.Calloc
				}
				for i := uint64(0); failed.Load() < failures; i++ {
					b := workout.Block{Size: workout.Kinds[r.IntN(len(workout.Kinds))].Size, Key: uint64(g)<<40 | i}
					switch i % 8 {
					case 0:
						b.P = calloc(1, b.Size)
					case 1:
						b.P = hakmem.AlignedAlloc(4096, b.Size)
					case 2:
						b.P = hakmem.MallocAt(hakmem.RegisterSite("storm"), b.Size)
					case 3:
						if n := len(blocks[g]); n > 0 {
							if p := hakmem.Realloc(blocks[g][n-1].P, 1<<32); p != nil {
								panic("4 GiB in a storm")
							}
							failed.Add(1)
						}
						continue
					default:
						b.P = malloc(b.Size)
					}
					if b.P == nil {
						failed.Add(1)
						continue
					}
					testkit.Fill(b.P, b.Size, b.Key)
					blocks[g] = append(blocks[g], b)
				}
				full.Done()
				<-release
				for _, b := range blocks[g] {
					if !testkit.Intact(b.P, b.Size, b.Key) {
						panic(fmt.Sprintf("%v is damaged", b))
					}
					free(b.P)
				}
				blocks[g] = nil
			}); v != nil {
				mu.Lock()
				problem = fmt.Errorf("goroutine %d: %v", g, v)
				mu.Unlock()
				failed.Store(failures)
				full.Done()
			}
		})
	}
	full.Wait()
	during := workout.ReadStats()
	if err := undo(); err != nil {
		return err
	}
	close(release)
	wg.Wait()
	if problem != nil {
		return problem
	}
	after := workout.ReadStats()
	if n := int64(after.OutOfMemory - before.OutOfMemory); n < failures*7/8 || n > failures+failures/8 {
		return fmt.Errorf("%d allocations that failed are counted as %d", failed.Load(), n)
	}
	// Each search for the blocks that magazines hold stops the world. So it must not happen at
	// every failure, but at most once in a millisecond, however slow the machine is.
	if n := int64(during.Drains - before.Drains); n > failures/5 {
		return fmt.Errorf("%d fronts were emptied in %d failures", n, failures)
	}
	if n := len(after.Errors); n > 16 {
		return fmt.Errorf("%d errors are kept", n)
	}
	if arg != "memory limit" && hakmem.Err() == nil {
		return fmt.Errorf("Err() does not tell of the storm")
	}
	bytes, objects := goMemory()
	if bytes > bytesWas+1<<20 || objects > objectsWas+5000 || runtime.NumGoroutine() > goroutinesWas {
		return fmt.Errorf("the storm leaves %d bytes, %d objects and %d goroutines in Go; before it there were %d, %d and %d",
			bytes, objects, runtime.NumGoroutine(), bytesWas, objectsWas, goroutinesWas)
	}
	hakmem.Trim()
	now, err := pace()
	if err != nil {
		return err
	}
	// One P more or less in the loop means one magazine more or less of each class.
	if now.misses > 2*usual.misses+2000 || now.refills > 2*usual.refills+2000 || now.drains != usual.drains || now.calls > usual.calls+2 {
		return fmt.Errorf("normal work after the storm needed %+v, before it %+v", now, usual)
	}
	hakmem.Trim()
	if s := workout.ReadStats(); s.Metadata > during.Metadata+64<<20 || s.Fronts > before.Fronts+goroutines+1 {
		return fmt.Errorf("the storm leaves %d bytes of metadata and %d fronts, before %d and %d", s.Metadata, s.Fronts, before.Metadata, before.Fronts)
	}
	return workout.GivenBack()
}

func TestStormsFromAllSides(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; the sanitizer's own memory counts for the limits")
	}
	failures := 1_000_000
	if testing.Short() || testkit.Race {
		failures = 50_000
	}
	for reason := range stormReasons {
		t.Run(strings.ReplaceAll(reason, " ", "_"), func(t *testing.T) {
			switch {
			case reason == "RLIMIT_DATA" && testkit.Race:
				t.Skip("skipped: -race; the race detector's own memory counts")
			case (testing.Short() || testkit.Race) && reason == "region full":
				t.Skip("skipped: -short or -race; it takes long")
			}
			testkit.InChild(t, "storm from all sides", fmt.Sprintf("%s/%d", reason, failures), workout.SmallRegion)
		})
	}
}

// effort is what the loop of pace needed.
type effort struct{ misses, refills, drains, calls uint64 }

// pace allocates and frees in a steady state on one goroutine, and returns how many slow paths and
// system calls that needed.
func pace() (e effort, err error) {
	var ps [400]unsafe.Pointer
	loop := func(ops int) error {
		r := rand.New(rand.NewPCG(7, 7))
		for range ops {
			slot := &ps[r.IntN(len(ps))]
			hakmem.Free(*slot)
			if *slot = hakmem.Malloc(uintptr(16 + r.IntN(1009))); *slot == nil {
				return fmt.Errorf("no block in normal work: %w", hakmem.Err())
			}
		}
		return nil
	}
	read := func() (e effort) {
		s := workout.ReadStats()
		for _, c := range s.Classes {
			e.misses, e.refills = e.misses+c.Misses, e.refills+c.Refills
		}
		return effort{e.misses, e.refills, s.Drains, s.SystemCalls.Commit + s.SystemCalls.Decommit + s.SystemCalls.Reserve + s.SystemCalls.Failed}
	}
	defer func() {
		for _, p := range ps {
			hakmem.Free(p)
		}
	}()
	if err := loop(100_000); err != nil { // warm up
		return e, err
	}
	before := read()
	if err := loop(500_000); err != nil {
		return e, err
	}
	after := read()
	return effort{after.misses - before.misses, after.refills - before.refills, after.drains - before.drains, after.calls - before.calls}, nil
}

// goMemory returns what the Go heap holds after a collection.
func goMemory() (bytes, objects uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // for what finalizers and pools held
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.HeapObjects
}

// spareFronts leaves as many fronts in the pool as the goroutines of a storm and their Ps may need. A front
// is smaller than what is left of a limit: the fronts would else be made of the memory that Go needs.
func spareFronts() {
	var heaps [16]*hakmem.Heap
	for i := range heaps {
		heaps[i] = hakmem.NewHeap()
	}
	for _, h := range heaps {
		h.Close()
	}
}

// goGarbage grows the Go heap to the size that it will need.
func goGarbage() {
	var keep [][]byte
	for i := range 64 << 10 {
		keep = append(keep, make([]byte, 16+i%64*16))
	}
	runtime.KeepAlive(keep)
	runtime.GC()
}
