package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/bench/trace"
	"github.com/hakmem/hakmem/internal/learn/sim"
)

// TestTraceDemand: which pages the blocks of a trace take.
func TestTraceDemand(t *testing.T) {
	const s = time.Second
	take := func(at time.Duration, block, pages int) sim.Event {
		return sim.Event{At: at, Block: block, Pages: pages}
	}
	free := func(at time.Duration, block int) sim.Event { return sim.Event{At: at, Block: block} }
	for _, c := range []struct {
		name   string
		events []trace.Event // one each second, from 0 s on
		want   []sim.Event
	}{
		{"whole pages", []trace.Event{{ID: 1, Size: 65536}, {ID: 2, Size: 65537}, {Kind: trace.Free, ID: 1}, {Kind: trace.ThreadDone}},
			[]sim.Event{take(0, 0, 1), take(s, 1, 2), free(2*s, 0)}},
		{"two of 32 KiB share a page, the third has another", []trace.Event{{ID: 1, Size: 32768}, {ID: 2, Size: 20000}, {ID: 3, Size: 32000}, {Kind: trace.Free, ID: 1}, {Kind: trace.Free, ID: 2}},
			[]sim.Event{take(0, 0, 1), take(2*s, 1, 1), free(4*s, 0)}},
		{"a page with room is used again", []trace.Event{{ID: 1, Size: 32768}, {ID: 2, Size: 32768}, {Kind: trace.Free, ID: 1}, {ID: 3, Size: 32768}},
			[]sim.Event{take(0, 0, 1)}},
		{"sizes that differ by more than twice do not share", []trace.Event{{ID: 1, Size: 16}, {ID: 2, Size: 40}, {ID: 3, Size: 0}, {Kind: trace.Free, ID: 1}, {Kind: trace.Free, ID: 3}},
			[]sim.Event{take(0, 0, 1), take(s, 1, 1), free(4*s, 0)}},
		{"an emptied page is not filled", []trace.Event{{ID: 1, Size: 16}, {Kind: trace.Free, ID: 1}, {ID: 1, Size: 16}},
			[]sim.Event{take(0, 0, 1), free(s, 0), take(2*s, 1, 1)}},
		{"just below a page", []trace.Event{{ID: 1, Size: 65535}, {ID: 2, Size: 65535}, {Kind: trace.Free, ID: 1}},
			[]sim.Event{take(0, 0, 1), take(s, 1, 1), free(2*s, 0)}},
		{"realloc", []trace.Event{{ID: 1, Size: 1 << 20}, {Kind: trace.Realloc, ID: 2, Old: 1, Size: 2 << 20}, {Kind: trace.Realloc, Old: 2, Size: 1 << 40}, {Kind: trace.Realloc, Old: 2}},
			[]sim.Event{take(0, 0, 16), free(s, 0), take(s, 1, 32), free(3*s, 1)}},
		{"oddities", []trace.Event{{Kind: trace.Free, ID: 7}, {ID: 0, Size: 9}, {ID: 1, Size: 65536}, {ID: 1, Size: 65536}},
			[]sim.Event{take(2*s, 0, 1), free(3*s, 0), take(3*s, 1, 1)}},
	} {
		d := traceDemand{blocks: map[uint64]tracedBlock{}}
		for i, e := range c.events {
			d.add(e, time.Duration(i)*s)
		}
		if !slices.Equal(d.program.Events, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, d.program.Events, c.want)
		}
	}
}

// TestReadTraceDemand: times come from the comments, and what cannot be used is refused.
func TestReadTraceDemand(t *testing.T) {
	const begins = "hakmem trace 1\n"
	for _, c := range []struct{ text, want string }{ // want "": it can be read
		{begins + "# at 5\na 0 1 65536\n# at 1000\nf 0 1\n# at 2500\n", ""},
		{begins + "a 0 1 65536\nf 0 1\n", "record it with `hakmem record --times`"},
		{begins + "# at 5\na 0 1 16\n# at 4\nf 0 1\n", "t: after line 3: the time 4: use times from the one before, 5,"},
		{begins + "# at 86400001\na 0 1 16\n", "t: after line 0: the time 86400001: use times from the one before, 0, to 86400000 ms"},
		{begins + "# at 1\na 0 1 99999999999999\n", "t:3: a block of 99999999999999 bytes"},
		{begins + "# at 1\na 0 1 68719476736\nf 0 1\na 0 2 68719476736\na 0 3 1\n", "t:6: 1048577 pages of 64 KiB are in use"},
		{begins + "# at 1\nx 0 1\n", `t:3: "x 0 1"`},
	} {
		r, err := trace.NewReader("t", strings.NewReader(c.text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := readTraceDemand("t", r)
		switch {
		case c.want == "" && (err != nil || p.Length != 2500*time.Millisecond || p.Pages != 1 || sim.Optimum(p, sim.CostsAt(0.13)) <= 0):
			t.Errorf("%q: %+v, %v", c.text, p, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}
