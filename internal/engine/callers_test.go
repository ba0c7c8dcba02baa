package engine

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem/internal/site"
)

// forgetCallers makes no program counter known, as long as the test runs and again after it.
func forgetCallers(t *testing.T) {
	forget := func() {
		for i := range callers.known {
			callers.known[i].pc.Store(0)
			callers.known[i].is.Store(0)
		}
		callers.n.Store(0)
	}
	forget()
	t.Cleanup(forget)
}

// pcHere returns the program counter of its caller, as runtime.Callers has it.
func pcHere() uintptr {
	var pcs [1]uintptr
	runtime.Callers(2, pcs[:])
	return pcs[0]
}

// TestOwnFunction: the public package and what is internal to it are hakmem's own; its tests and programs, other
// modules and the library are not.
func TestOwnFunction(t *testing.T) {
	for name, want := range map[string]bool{
		"github.com/hakmem/hakmem.Malloc":                      true,
		"github.com/hakmem/hakmem.(*Heap).Malloc-fm":           true,
		"github.com/hakmem/hakmem.New[...]":                    true,
		"github.com/hakmem/hakmem/internal/engine.Malloc":      true,
		"github.com/hakmem/hakmem_test.TestMalloc":             false,
		"github.com/hakmem/hakmem/cmd/hakmem.main":             false,
		"github.com/hakmem/hakmem/hakmemtest.Run":              false,
		"github.com/hakmem/hakmem2.Malloc":                     false,
		"example.com/github.com/hakmem/hakmem/internal.Malloc": false,
		"main.main": false,
		"":          false,
	} {
		if ownFunction(name) != want {
			t.Errorf("%q is hakmem's own: %t", name, !want)
		}
	}
}

// TestCallersAreBounded: so many program counters get sites, and all others share one.
func TestCallersAreBounded(t *testing.T) {
	forgetCallers(t)
	own := pcHere()
	for range 2 {
		if is := lookUp(own); is != isOwn || callers.n.Load() != 1 {
			t.Errorf("a function of this package is %#x, and %d are known", is, callers.n.Load())
		}
	}
	sites := site.Num()
	for i := range uintptr(2 * mostPCs) { // of no function, so that all have one name
		if is := lookUp(64 + i); site.ID(is) > site.Num() {
			t.Fatalf("program counter %d is %#x", i, is)
		}
	}
	if n := callers.n.Load(); n != mostPCs || site.Num() > sites+2 {
		t.Errorf("%d program counters are known, want %d; %d more sites, want two", n, mostPCs, site.Num()-sites)
	}
	name, _, _ := site.Read(site.ID(lookUp(1 << 40)))
	if name != otherCallers || !IsCaller(site.ID(lookUp(1<<40))) {
		t.Errorf("a program counter without room has the site %q", name)
	}
	if lookUp(own) != isOwn || callers.n.Load() != mostPCs {
		t.Error("what is known is forgotten when there is no room")
	}
}

// TestCallersAtOnce: goroutines that meet program counters at the same time agree on what each is, and none is
// counted twice.
func TestCallersAtOnce(t *testing.T) {
	forgetCallers(t)
	const goroutines, pcs, rounds = 4, 100, 20
	for round := range uintptr(rounds) {
		var got [goroutines][pcs]uint32
		var wg sync.WaitGroup
		var arrived atomic.Int32
		for g := range goroutines {
			wg.Go(func() {
				for arrived.Add(1); arrived.Load() < goroutines; {
					runtime.Gosched()
				}
				for i := range uintptr(pcs) {
					got[g][i] = lookUp(64 + round*pcs + i)
				}
			})
		}
		wg.Wait()
		for g := range goroutines {
			if got[g] != got[0] {
				t.Errorf("goroutines 0 and %d found different things", g)
			}
		}
		if n := callers.n.Load(); n != uint32(round+1)*pcs {
			t.Fatalf("%d program counters are known, want %d", n, (round+1)*pcs)
		}
	}
}

// TestDraw: the chances of a guard and of a caller are independent, whichever of the two is rarer.
func TestDraw(t *testing.T) {
	for _, x := range []struct {
		settings      map[string]string
		guard, caller float64 // the chances
	}{
		{nil, 0, 0},
		{map[string]string{"HAKMEM_SITES": "pc/8"}, 0, 1. / 8},
		{map[string]string{"HAKMEM_SITES": "pc/1"}, 0, 1},
		{map[string]string{"HAKMEM_GUARD": "1/8"}, 1. / 8, 0},
		{map[string]string{"HAKMEM_GUARD": "1"}, 1, 0},
		{map[string]string{"HAKMEM_GUARD": "1", "HAKMEM_SITES": "pc/8"}, 1, 1. / 8},
		{map[string]string{"HAKMEM_GUARD": "1/8", "HAKMEM_SITES": "pc/1"}, 1. / 8, 1},
		{map[string]string{"HAKMEM_GUARD": "1/4", "HAKMEM_SITES": "pc/8"}, 1. / 4, 1. / 8},
		{map[string]string{"HAKMEM_GUARD": "1/8", "HAKMEM_SITES": "pc/4"}, 1. / 8, 1. / 4},
	} {
		if !checkLive {
			x.caller = 0
		}
		t.Run(fmt.Sprint(x.settings), func(t *testing.T) {
			withPolicy(t, x.settings)
			f := heapFront(t)
			const n = 20_000
			guard, caller, both := 0.0, 0.0, 0.0
			for range n {
				s := draw(f, 0, false)
				if s.guard {
					guard++
				}
				if s.site != 0 {
					caller++
				}
				if s.guard && s.site != 0 {
					both++
				}
				if s.drawn != (s.site != 0) {
					t.Fatalf("%+v", s)
				}
			}
			for _, y := range []struct {
				what      string
				got, want float64
			}{{"guards", guard, x.guard}, {"callers", caller, x.caller}, {"both", both, x.guard * x.caller}} {
				if d := y.got - n*y.want; d*d > 25*n*y.want*(1-y.want) { // 5 standard deviations
					t.Errorf("%s: %.0f of %d, want %.0f", y.what, y.got, n, n*y.want)
				}
			}
		})
	}
	withPolicy(t, map[string]string{"HAKMEM_SITES": "pc/1"})
	if s := draw(0, 5, false); s != (sample{site: 5}) {
		t.Errorf("an allocation with a site: %+v", s)
	}
}

// TestCallerWithoutMemory: an allocation succeeds without its caller where there is no memory for the site map.
func TestCallerWithoutMemory(t *testing.T) {
	needSites(t)
	x := sample{site: 1, drawn: true}
	before := outOfMemory.Load()
	if noMemory(); x.forgo(1<<20) || !x.forgo(0) || x.site != 0 || x.forgo(0) || outOfMemory.Load() != before {
		t.Errorf("%+v, %d failures are counted", x, outOfMemory.Load()-before)
	}
}

// TestCallerSite: the caller is the first function that is not hakmem's own. Tests of this package are.
func TestCallerSite(t *testing.T) {
	forgetCallers(t)
	s := callerSite()
	if name, _, _ := site.Read(s); !strings.HasPrefix(name, "testing.tRunner:") {
		t.Errorf("the caller is %q", name)
	}
	if callerSite() != s || !IsCaller(s) {
		t.Error("the second call has another caller, or none")
	}
}
