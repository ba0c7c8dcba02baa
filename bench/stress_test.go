package bench

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// TestStressOps compares the number of operations that the formulas give with the number of blocks
// that were freed, in all and after the clock has stopped.
func TestStressOps(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*loops.Params)
		later  func(loops.Params) uint64 // blocks of a thread from before the start, or left at the end
	}{
		{"mstress", func(p *loops.Params) { p.Threads = 3 }, nil},
		{"xmalloc-test", func(p *loops.Params) { p.Threads = 2 }, nil},
		{"xmalloc-mixed", func(p *loops.Params) { p.Threads = 1 }, nil},
		{"rptest", func(p *loops.Params) { p.Threads, p.Rounds = 2, 5 }, func(p loops.Params) uint64 { return 2 * p.WS }},
		{"frag", func(p *loops.Params) { p.Threads = 2 }, func(p loops.Params) uint64 {
			// of 1 MiB: a tenth of a tenth of a tenth, and so on, and the last size
			a := p.WS * mib / 64
			b := (p.WS*mib - a/10*64) / 96
			c := (p.WS*mib - a/10/10*64 - b/10*96) / 160
			a, b, c = a/10/10/10, b/10/10, c/10
			return a + b + c + (p.WS*mib-a*64-b*96-c*160)/256
		}},
	} {
		w, err := FindWorkload(c.name)
		if err != nil {
			t.Fatal(err)
		}
		p := small(w)
		c.change(&p)
		r, err := Measure(Spec{Workload: w.Name, Allocator: "hakmem", Params: p, Observe: loops.ObserveVerify})
		if err != nil {
			t.Fatal(err)
		}
		want := 2 * r.Observed.Verified
		if c.later != nil {
			want -= uint64(p.Threads) * c.later(p)
		}
		if got := w.Ops(p); got != want {
			t.Errorf("%s: %d operations are promised, %d were performed", w.Name, got, want)
		}
	}
}

// TestMstressGrows goes through the realloc that the small parameters of the other tests do not
// reach.
func TestMstressGrows(t *testing.T) {
	driver := buildDriver(t)
	w, _ := FindWorkload("mstress")
	p := w.Params
	p.WS, p.Rounds, p.Threads = uint64(w.Map(p)["grow"].(int))/100+1, 1, 1
	r, err := Measure(Spec{Workload: w.Name, Allocator: "hakmem", Params: p, Observe: loops.ObserveHash})
	if err != nil {
		t.Fatal(err)
	}
	var c result.Run
	runDriver(t, driver, &c, append(w.Args(p), "--observe", "hash")...)
	if !slices.Equal(r.Observed.Hashes, c.Observed.Hashes) {
		t.Errorf("hashes %v in Go, %v in C", r.Observed.Hashes, c.Observed.Hashes)
	}
	blocks := uint64(100 * p.WS * 3 / 2)
	if got, want := w.Ops(p), 2*blocks+1+1+1; got != want { // the array: malloc, realloc, free
		t.Errorf("%d operations, want %d", got, want)
	}
}

func TestStressChecks(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*loops.Params)
		bad    string
	}{
		{"mstress", func(p *loops.Params) { p.WS = loops.MaxWS }, "ws"},
		{"mstress", func(p *loops.Params) { p.WS, p.Threads = 10_000, loops.MaxThreads }, "ws"},
		{"rptest", func(p *loops.Params) { p.Iters = p.WS + 1 }, "iters"},
		{"rptest", func(p *loops.Params) { p.Max = 1 << 20 }, ""},
		{"frag", func(p *loops.Params) { p.WS = loops.MaxWS }, "ws"},
		{"phase", func(p *loops.Params) { p.Max = loops.MaxSize }, "max"},
		{"xmalloc-test", func(p *loops.Params) { p.Max = loops.MaxSize }, ""},
	} {
		w, err := FindWorkload(c.name)
		if err != nil {
			t.Fatal(err)
		}
		p := w.Params
		c.change(&p)
		got := ""
		if err, ok := w.Validate(p).(*loops.ParamError); ok {
			got = err.Name
		}
		if got != c.bad {
			t.Errorf("%s %s: complains about %q, want %q", c.name, fmt.Sprint(w.Map(p)), got, c.bad)
		}
	}
}
