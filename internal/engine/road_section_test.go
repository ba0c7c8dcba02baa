//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && (amd64 || arm64) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package engine

import (
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// These tests check what the fast section relies on, for the Go version they run on: the section
// finds its P; nosplit code survives continuous stop-the-world; the same code without its
// conditions does not. (A test of the public package runs the road itself under continuous
// stop-the-world.)

func TestFastSectionInForce(t *testing.T) {
	if !verified() {
		t.Fatalf("the fast section is off on %s, %s/%s: are the offsets of g.m and m.p still 48 and %d? (Calls of its own only: %v)", runtime.Version(), runtime.GOOS, runtime.GOARCH, mP, callsOnlyItsOwn())
	}
	n := 0
	for range 1000 {
		if !sameP() {
			n++
		}
		runtime.Gosched()
	}
	if n != 0 {
		t.Fatalf("the fast section and procPin disagreed %d times of 1000", n)
	}
}

// needSection skips tests that would follow wrong offsets.
func needSection(t *testing.T) {
	t.Helper()
	if !verified() {
		t.Skip("skipped: the fast section is off; see TestFastSectionInForce")
	}
}

// TestFastSectionIsASymbol: the section is a function of its own, which is called by its address,
// so that no caller has an inlined copy.
func TestFastSectionIsASymbol(t *testing.T) {
	needSection(t)
	malloc, free := fastSection()
	for want, pc := range map[string]uintptr{"malloc": **(**uintptr)(unsafe.Pointer(&malloc)), "free": **(**uintptr)(unsafe.Pointer(&free))} {
		f := runtime.FuncForPC(pc)
		if f == nil || f.Entry() != pc || !strings.HasPrefix(f.Name(), enginePrefix+want) {
			t.Errorf("%s goes to %#x, which is %v", want, pc, f)
		}
	}
}

// toy is a per-P counter pair like a magazine's top and slot: the two must always agree.
type toy struct {
	a, b uint64
	_    [48]byte
}

var toys [MaxP]toy

// step changes this P's toy in two stores, as push does. With nosplit it cannot be interrupted
// between them. torn reports that it found them apart.
//
//go:nosplit
//go:noinline
//go:nocheckptr
func stepSafe() (torn bool) {
	t := &toys[*(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP)))&(MaxP-1)]
	a := t.a
	torn = a != t.b
	t.a = a + 1
	for range 64 { // widen the window
		t.b = a
	}
	t.b = a + 1
	return torn
}

// stepUnsafe is stepSafe without nosplit: the negative control. If it is stopped after getm, it may
// even find that its thread has lost its P.
//
//go:noinline
//go:nocheckptr
func stepUnsafe() (torn bool) {
	p := *(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP))
	if p == nil {
		return true
	}
	t := &toys[*(*uint32)(p)&(MaxP-1)]
	a := t.a
	torn = a != t.b
	t.a = a + 1
	for range 64 {
		t.b = a
	}
	t.b = a + 1
	return torn
}

// runToys steps from eight goroutines while the world stops all the time, until something is torn
// or the deadline has passed.
func runToys(step func() bool, deadline time.Duration) (torn bool, steps int64) {
	clear(toys[:])
	var done, found atomic.Bool
	var total atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(deadline)
	for range 8 {
		wg.Go(func() {
			for !done.Load() {
				for range 1000 {
					if step() {
						found.Store(true)
						done.Store(true)
					}
				}
				if total.Add(1000); time.Now().After(end) {
					done.Store(true)
				}
			}
		})
	}
	var m runtime.MemStats
	for !done.Load() {
		runtime.ReadMemStats(&m) // stops the world
	}
	wg.Wait()
	return found.Load(), total.Load()
}

// TestNosplitIsWhatProtects: the section's two stores stay together with nosplit and come apart
// without it. The second half shows that the first could have failed. Its limits are of patience,
// not of correctness (it takes well under a second).
func TestNosplitIsWhatProtects(t *testing.T) {
	needSection(t)
	if torn, n := runToys(stepSafe, time.Second); torn {
		t.Fatalf("a nosplit section was torn within %d steps", n)
	}
	torn, n := runToys(stepUnsafe, 30*time.Second)
	if !torn {
		t.Fatalf("the negative control was not torn in %d steps: this test shows nothing any more", n)
	}
	t.Logf("without nosplit: torn within %d steps", n)
}

// toyTable is a table of toys, as pFronts is one of fronts.
var toyTable [MaxP]uintptr

// stepTable is stepSafe with the toy in this P's entry: a section whose toy a drain may take away.
//
//go:nosplit
//go:noinline
//go:nocheckptr
func stepTable() bool {
	t := (*toy)(unsafe.Add(nil, toyTable[*(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP)))&(MaxP-1)]))
	a := t.a
	t.a = a + 1
	for range 64 {
		t.b = a
	}
	t.b = a + 1
	return false
}

// drainToys swaps the entries of all Ps for other toys, waits for grace, and looks at the toys that
// it took away, while four goroutines step. It reports whether one of the toys was in use.
func drainToys(grace func(), most int, patience time.Duration) (torn bool, drains int) {
	clear(toys[:])
	procs := runtime.GOMAXPROCS(0)
	next := 0
	fresh := func() uintptr {
		next = (next + 1) % len(toys)
		return uintptr(unsafe.Pointer(&toys[next]))
	}
	for i := range procs {
		toyTable[i] = fresh()
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !done.Load() {
				for range 100 {
					stepTable()
				}
				runtime.Gosched() // the world can stop here, and hardly elsewhere
			}
		})
	}
	for end := time.Now().Add(patience); !torn && drains < most && time.Now().Before(end); drains++ {
		var old []uintptr
		for i := range procs {
			old = append(old, atomic.SwapUintptr(&toyTable[i], fresh()))
		}
		grace()
		for _, p := range old {
			x := (*toy)(unsafe.Add(nil, p))
			a, b := atomic.LoadUint64(&x.a), atomic.LoadUint64(&x.b)
			torn = torn || a != b || atomic.LoadUint64(&x.a) != a
		}
	}
	done.Store(true)
	wg.Wait()
	return torn, drains
}

// TestGraceIsWhatProtects: what a drain takes away is no longer in use after the grace; without
// grace it is. As in TestNosplitIsWhatProtects, the limits are of patience.
func TestGraceIsWhatProtects(t *testing.T) {
	needSection(t)
	if old := runtime.GOMAXPROCS(0); old < 2 {
		defer runtime.GOMAXPROCS(old)
		runtime.GOMAXPROCS(2)
	}
	var m runtime.MemStats
	const patience = 30 * time.Second
	torn, n := drainToys(func() { runtime.ReadMemStats(&m) }, 1000, patience)
	if torn || n < 100 {
		t.Fatalf("%d drains of 1000; the last took away what a section was using: %v", n, torn)
	}
	if torn, n = drainToys(func() {}, math.MaxInt, patience); !torn {
		t.Fatalf("%d drains without grace took nothing away from a section: this test shows nothing any more", n)
	}
	t.Logf("without grace: taken from a section within %d drains", n)
}

// TestPAddressStays: a P's address belongs to its number, whatever GOMAXPROCS was in between. A
// front's owner word relies on that.
func TestPAddressStays(t *testing.T) {
	needSection(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	at := map[int]uintptr{}
	for _, n := range []int{2, 64, 1, 7, 64, 3, 128, 2, 128} {
		runtime.GOMAXPROCS(n)
		var wg sync.WaitGroup
		for range 4 * n {
			wg.Go(func() {
				for range 20 {
					pid := procPin()
					p := currentP()[0]
					procUnpin()
					mu.Lock()
					if old, ok := at[pid]; ok && old != p {
						t.Errorf("P %d is at %#x, and was at %#x", pid, p, old)
					}
					at[pid] = p
					mu.Unlock()
					runtime.Gosched()
				}
			})
		}
		wg.Wait()
	}
	of := map[uintptr]int{}
	for pid, p := range at {
		if other, ok := of[p]; ok {
			t.Errorf("P %d and P %d are both at %#x", pid, other, p)
		}
		of[p] = pid
	}
	if len(at) < 2 {
		t.Errorf("only %d Ps ran", len(at))
	}
}
