package main

import (
	"slices"
	"testing"
	"time"
)

// TestPatterns: demand depends on pattern, seed and length only. Slots are used by one block at a time, and
// as few as there are blocks at the peak. Sizes and levels are what the patterns say.
func TestPatterns(t *testing.T) {
	const length = 5 * time.Second
	for _, name := range patternNames() {
		d := makeDemand(name, 7, length)
		if other := makeDemand(name, 7, length); !slices.Equal(d.ops, other.ops) || d.slots != other.slots || d.digest() != other.digest() {
			t.Errorf("%s differs from one call to the next", name)
		}
		if d.digest() == makeDemand(name, 8, length).digest() {
			t.Errorf("%s is the same for two seeds", name)
		}
		slots := make([]int, d.slots) // sizes
		live, most, blocks, mostBlocks, frees := 0, 0, 0, 0, 0
		last := time.Duration(0)
		least, largest := 1<<30, 0
		sites := map[int32]bool{}
		for _, op := range d.ops {
			if op.at < last || op.at >= length || op.at%time.Millisecond != 0 {
				t.Fatalf("%s: %+v after %v", name, op, last)
			}
			last = op.at
			if (op.size == 0) == (slots[op.slot] == 0) {
				t.Fatalf("%s: %+v, the slot has %d bytes", name, op, slots[op.slot])
			}
			live += op.size - slots[op.slot]
			slots[op.slot] = op.size
			if op.size == 0 {
				blocks--
				frees++
				continue
			}
			blocks++
			sites[op.site] = true
			least, largest = min(least, op.size), max(largest, op.size)
			most, mostBlocks = max(most, live), max(mostBlocks, blocks)
		}
		if mostBlocks != d.slots || frees < 50 {
			t.Errorf("%s has %d slots for %d blocks, %d frees", name, d.slots, mostBlocks, frees)
		}
		if most < 15*mib || most > 260*mib {
			t.Errorf("%s has %d MiB at its peak", name, most/mib)
		}
		if limit, ok := map[string]int{"small": 1024, "mid": 256 << 10}[name]; ok && largest > limit || !ok && largest < 256<<10*9/10 || least < 1 {
			t.Errorf("%s has blocks of %d to %d bytes", name, least, largest)
		}
		if wantSites := name == "sites"; (len(sites) == demandSites+1) != wantSites {
			t.Errorf("%s uses the sites %v", name, sites)
		}
	}
	if !slices.Contains(patternNames(), "shift") || len(patternNames()) != 8 {
		t.Errorf("%q", patternNames())
	}
	if d, other := makeDemand("shift", 7, length), makeDemand("shift", 7, 2*length); len(d.ops) >= len(other.ops) {
		t.Errorf("%d operations in %v, %d in twice the time", len(d.ops), length, len(other.ops))
	}
}

// TestDemandOrder: at one time frees come first, so that their slots are used again. What lives at the end is
// not freed.
func TestDemandOrder(t *testing.T) {
	d := demandMaker{length: 3}
	d.block(0, 1, 10, 0)
	d.block(2, 3, 30, 1)
	d.block(1, 2, 20, 2)
	d.block(3, 4, 40, 0)
	want := demand{[]demandOp{
		{0, 0, 0, 10}, {time.Second, 0, 0, 0}, {time.Second, 0, 2, 20}, {2 * time.Second, 0, 0, 0}, {2 * time.Second, 0, 1, 30},
	}, 1}
	if got := d.demand(); !slices.Equal(got.ops, want.ops) || got.slots != want.slots {
		t.Errorf("%+v, want %+v", got, want)
	}
}
