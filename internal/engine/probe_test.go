package engine

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// countingClock is a clock that each look moves on by step.
type countingClock struct {
	*testkit.Clock
	step time.Duration
}

func (c *countingClock) Now() time.Duration {
	c.Skip(c.step)
	return c.Clock.Now()
}

// TestProbe: what a return and a fault cost is measured by the clock, again and again, and the model of
// hold times has it. A probe leaves the books as they are.
func TestProbe(t *testing.T) {
	if !mayProbe {
		t.Skip("skipped: this build makes no probes")
	}
	c := withClock(t)
	const step = 8 * time.Microsecond
	SetClock(&countingClock{c, step})
	look := func() (m learn.Machine, costs learn.Costs) {
		region.mu.Lock()
		defer region.mu.Unlock()
		return keeper.machine.Machine(), keptModel().Costs()
	}
	turn := func() {
		freeBlocks(t, fillBytes(t, 4*mebibyte, mebibyte))
		c.Advance(30 * time.Second)
	}
	for range 4 {
		turn()
	}
	if m, _ := look(); m != learn.TypicalMachine {
		t.Fatalf("after four probes: %+v", m)
	}
	calls := osmem.Calls(osmem.OpDiscard)
	turn()
	if n := osmem.Calls(osmem.OpDiscard) - calls; n < probeRounds+1 {
		t.Errorf("%d returns, want those of a probe and one more", n)
	}
	turn()              // the model gets its costs at a tick
	const want = 0.5e-6 // a step for 16 parts
	m, costs := look()
	if math.Abs(m.Fault-want) > 1e-12 || math.Abs(m.Return-want) > 1e-12 {
		t.Errorf("measured %+v, want %g each", m, want)
	}
	if costs != m.Costs(pageSize, 0.1) {
		t.Errorf("the model's costs are %+v, want those of %+v", costs, m)
	}
	mustHold(t)

	// Between two probes lie 22 s.
	last, n := lastProbe.at, 0
	for range 10 {
		freeBlocks(t, fillBytes(t, 4*mebibyte, mebibyte))
		c.Advance(10 * time.Second)
		if at := lastProbe.at; at != last {
			if n++; at.since(last) < 22_000 {
				t.Errorf("a probe %d ms after another", at.since(last))
			}
			last = at
		}
	}
	if n < 3 {
		t.Errorf("%d probes in 100 s", n)
	}
}

// TestProbeWithoutRoom: where the hard limit has no room for a page, there is no probe.
func TestProbeWithoutRoom(t *testing.T) {
	c := withClock(t)
	SetClock(&countingClock{c, 8 * time.Microsecond})
	defer freeBlocks(t, fillBytes(t, 4*mebibyte, mebibyte))
	p := fillBytes(t, mebibyte, mebibyte)
	freeBlocks(t, p)
	page := p[0].page()
	calls := osmem.Calls(osmem.OpDiscard)
	withLimit(t, 0, uint64(counted.Load()))
	was := counted.Load()
	probe(page, milliseconds())
	if n := osmem.Calls(osmem.OpDiscard) - calls; n != 0 || counted.Load() != was {
		t.Errorf("%d returns, counted %d, was %d", n, counted.Load(), was)
	}
}

// TestProbeLosesMemory: a probe whose return leaves the page unusable takes the page out of use until it can
// be committed again.
func TestProbeLosesMemory(t *testing.T) {
	if !mayProbe {
		t.Skip("skipped: this build makes no probes")
	}
	c := withClock(t)
	for _, refusedToo := range []bool{false, true} {
		freeBlocks(t, fillBytes(t, 4*mebibyte, mebibyte))
		lastProbe.made = false // one is due
		first := true
		osmem.Inject(func(op osmem.Op) error {
			switch {
			case op == osmem.OpDiscard && first:
				first = false
				return fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)
			case op == osmem.OpCommit && refusedToo:
				return osmem.ErrInjected
			}
			return nil
		})
		c.Advance(20 * time.Second)
		mustHold(t)
		lost := 0
		region.mu.Lock()
		for c := region.firstChunk(); c < region.endChunk(); c++ {
			lost += super(c).lost.count()
		}
		region.mu.Unlock()
		if first || (lost > 0) != refusedToo {
			t.Errorf("commits refused %t: %d pages are lost; the probe was made %t", refusedToo, lost, !first)
		}
		osmem.Inject(nil)
		c.Advance(20 * time.Second)
		for _, p := range fillBytes(t, 4*mebibyte, mebibyte) { // writes to each page
			Free(0, p)
		}
		mustHold(t)
	}
	_ = TakeFinding()
}
