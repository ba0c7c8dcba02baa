package proof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	gotrace "runtime/trace"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/testkit"
	"golang.org/x/exp/trace"
)

// shown is what an execution trace has of hakmem: how many regions of each type ended, and the log messages of
// each category. within has them by the region in which they are.
type shown struct {
	regions map[string]int
	logs    map[string][]string
	within  map[string]int
}

// recorded returns what an execution trace has of hakmem after do. Each region must end, on the goroutine that began
// it.
func recorded(t *testing.T, do func()) shown {
	t.Helper()
	var file bytes.Buffer
	if err := gotrace.Start(&file); err != nil {
		t.Skip("skipped: a trace is recorded already: ", err)
	}
	do()
	gotrace.Stop()
	r, err := trace.NewReader(&file)
	if err != nil {
		t.Skip("skipped: golang.org/x/exp/trace does not read the traces of this Go: ", err)
	}
	s := shown{map[string]int{}, map[string][]string{}, map[string]int{}}
	open := map[trace.GoID][]string{}
	for {
		e, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		g := e.Goroutine()
		switch e.Kind() {
		case trace.EventRegionBegin:
			if name := e.Region().Type; strings.HasPrefix(name, "hakmem.") {
				open[g] = append(open[g], name)
			}
		case trace.EventRegionEnd:
			if name := e.Region().Type; strings.HasPrefix(name, "hakmem.") {
				n := len(open[g])
				if n == 0 || open[g][n-1] != name {
					t.Fatalf("region %s ends, and open are %v", name, open[g])
				}
				open[g] = open[g][:n-1]
				s.regions[name]++
			}
		case trace.EventLog:
			if l := e.Log(); strings.HasPrefix(l.Category, "hakmem.") {
				s.logs[l.Category] = append(s.logs[l.Category], l.Message)
				if n := len(open[g]); n > 0 {
					s.within[l.Category+" in "+open[g][n-1]]++
				}
			}
		}
	}
	for g, names := range open {
		if len(names) > 0 {
			t.Errorf("on goroutine %d these regions do not end: %v", g, names)
		}
	}
	return s
}

// TestExecutionTrace: an execution trace shows each operation that allocates a page or more, Trim, the ticks of the
// scavenger, its work near the soft limit, and refusals. Small allocations are not in it, and what was done while
// no trace was recorded is in no trace.
func TestExecutionTrace(t *testing.T) {
	const size, small = 5 << 20, 100 // size is above what magazines keep
	site := hakmem.RegisterSite("execution trace")
	var clock testkit.Clock
	engine.SetClock(&clock)
	defer engine.SetClock(nil)
	soft, hard, err := hakmem.SwapMemoryLimit(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := hakmem.SetMemoryLimit(soft, hard); err != nil {
			t.Error(err)
		}
	}()
	h := hakmem.NewHeap()
	defer h.Close()
	limit := func(soft, hard uint64) {
		if err := hakmem.SetMemoryLimit(soft, hard); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		name string
		do   func()
		// want is the regions, with how often each comes; 0 stands for at least once.
		want map[string]int
		logs map[string]string // a part of the one message of each category
	}{
		{"Malloc", func() { hakmem.Free(hakmem.Malloc(size)) }, map[string]int{"hakmem.Malloc": 1}, map[string]string{"hakmem.bytes": "5242880"}},
		{"Calloc", func() { hakmem.Free(hakmem.Calloc(5, 1<<20)) }, map[string]int{"hakmem.Calloc": 1}, map[string]string{"hakmem.bytes": "5242880"}},
		{"AlignedAlloc", func() { hakmem.Free(hakmem.AlignedAlloc(1<<20, size)) }, map[string]int{"hakmem.AlignedAlloc": 1}, nil},
		{"MallocAt", func() { hakmem.Free(hakmem.MallocAt(site, size)) }, map[string]int{"hakmem.MallocAt": 1}, nil},
		{"CallocAt", func() { hakmem.Free(hakmem.CallocAt(site, 1, size)) }, map[string]int{"hakmem.CallocAt": 1}, nil},
		{"AlignedCalloc", func() { hakmem.Free(hakmem.AlignedCalloc(1<<20, size)) }, map[string]int{"hakmem.AlignedCalloc": 1}, nil},
		{"AlignedAllocAt", func() { hakmem.Free(hakmem.AlignedAllocAt(site, 1<<20, size)) }, map[string]int{"hakmem.AlignedAllocAt": 1}, nil},
		{"ReallocZeroed", func() { hakmem.Free(hakmem.ReallocZeroed(hakmem.Malloc(small), small, size)) }, map[string]int{"hakmem.Realloc": 1}, nil},
		{"Realloc", func() { hakmem.Free(hakmem.Realloc(hakmem.MallocAt(site, small), size)) }, map[string]int{"hakmem.Realloc": 1}, nil},
		{"Heap", func() { h.Free(h.Malloc(size)); h.Free(h.Calloc(1, size)) }, map[string]int{"hakmem.Heap.Malloc": 1, "hakmem.Heap.Calloc": 1}, nil},
		{"Arena", func() {
			a := hakmem.NewArena()
			a.Alloc(size, 8)
			a.Close()
		}, map[string]int{"hakmem.Arena": 1}, nil},
		{"MakeSlice", func() { hakmem.FreeSlice(hakmem.MakeSlice[byte](size, size)) }, map[string]int{"hakmem.Calloc": 1}, nil},
		{"small", func() {
			for range 10_000 {
				hakmem.Free(hakmem.Malloc(small))
				hakmem.Free(hakmem.MallocAt(site, 40_000))
			}
		}, nil, nil},
		{"Trim", hakmem.Trim, map[string]int{"hakmem.Trim": 1}, map[string]string{"hakmem.counted": "from "}},
		{"Heap.Trim", h.Trim, map[string]int{"hakmem.Heap.Trim": 1}, map[string]string{"hakmem.counted": " bytes"}},
		{"ticks", func() {
			hakmem.Free(hakmem.Malloc(size))
			clock.Advance(time.Minute)
		}, map[string]int{"hakmem.Malloc": 1, "hakmem.tick": 0}, nil},
		{"pressure", func() {
			limit(1, 0)
			p := hakmem.Malloc(64 << 20)
			clock.Advance(time.Minute)
			hakmem.Free(p)
			limit(0, 0)
			clock.Advance(time.Hour)
		}, map[string]int{"hakmem.Malloc": 1, "hakmem.pressure": 0, "hakmem.tick": 0}, nil},
		{"refusal by a limit", func() {
			limit(0, max(hakmem.Counted(), 2<<20))
			if p := hakmem.Malloc(64 << 20); p != nil {
				t.Error("the limit does not hold")
			}
			limit(0, 0)
		}, map[string]int{"hakmem.Malloc": 1}, map[string]string{"hakmem.limit": "allocation of 67108864 bytes", "hakmem.refused": "no block of 67108864 bytes: hakmem: the hard memory limit"}},
		{"refusal of the absurd", func() { hakmem.Malloc(1 << 60) }, map[string]int{"hakmem.Malloc": 1}, map[string]string{"hakmem.refused": "no block of 1152921504606846976 bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock.Advance(time.Hour) // so that no tick is due
			c.do()
			clock.Advance(time.Hour)
			if s := recorded(t, func() {}); len(s.regions)+len(s.logs) > 0 {
				t.Errorf("a trace of nothing has %+v", s)
			}
			s := recorded(t, c.do)
			for name, n := range s.regions {
				if want, ok := c.want[name]; !ok || want != 0 && n != want {
					t.Errorf("%d regions %s, want %d", n, name, want)
				}
			}
			for name := range c.want {
				if s.regions[name] == 0 {
					t.Errorf("no region %s, but %v", name, s.regions)
				}
			}
			for category, part := range c.logs {
				if got := s.logs[category]; len(got) != 1 || !strings.Contains(got[0], part) {
					t.Errorf("%s says %q, want one message with %q", category, got, part)
				}
				for name := range c.want {
					if n := s.within[fmt.Sprint(category, " in ", name)]; n != 1 {
						t.Errorf("%d messages %s in region %s, want 1", n, category, name)
					}
				}
			}
		})
	}
}
