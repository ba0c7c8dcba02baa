package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A pattern is a kind of demand that a real process makes. Numbers of bytes are such that a peak takes
// some 25 ms to fault in: enough to be seen in CPU time, and little enough for a machine with 1 GiB. Times
// lie on both sides of the hold times that are compared, 0.1 to 5 s.
type pattern struct {
	name, doc string
	make      func(*demandMaker)
}

const mib = 1 << 20

// patterns are all of them.
var patterns = []pattern{
	{"regular", "a peak of 96 MiB each 1.5 s", func(d *demandMaker) {
		d.constant(16*mib, largeBlock, 0)
		d.periodic(0, d.length, 1.5, 0.3, 96*mib, largeBlock, 0)
	}},
	{"peaks", "little peaks each 0.3 s, and a rare one of 128 MiB each 7 s", func(d *demandMaker) {
		d.constant(16*mib, largeBlock, 0)
		d.periodic(0, d.length, 0.3, 0.5, 8*mib, largeBlock, 0)
		d.periodic(1, d.length, 7, 0.07, 128*mib, largeBlock, 0)
	}},
	{"tide", "a level that rises and falls between 16 and 112 MiB in 6 s", func(d *demandMaker) {
		d.follow(func(at float64) float64 { return 64*mib - 48*mib*math.Cos(2*math.Pi*at/6) }, largeBlock)
	}},
	{"bursts", "bursts of 64 MiB for 0.1 s, with gaps of 1.2 s on average", func(d *demandMaker) {
		d.constant(16*mib, largeBlock, 0)
		d.bursts(1.2, 0.1, 64*mib, largeBlock)
	}},
	{"shift", "a peak of 64 MiB each 0.5 s, and in the second half each 4 s", func(d *demandMaker) {
		d.constant(16*mib, largeBlock, 0)
		d.periodic(0, d.length/2, 0.5, 0.3, 64*mib, largeBlock, 0)
		d.periodic(d.length/2, d.length, 4, 0.1, 64*mib, largeBlock, 0)
	}},
	{"sites", "two call sites: blocks that live for 0.1 s each 0.4 s, and for 0.5 s each 5 s", func(d *demandMaker) {
		d.constant(8*mib, largeBlock, 0)
		d.periodic(0, d.length, 0.4, 0.25, 16*mib, midBlock, 1)
		d.periodic(0.5, d.length, 5, 0.1, 96*mib, midBlock, 2)
	}},
	{"mid", "bursts of 48 MiB in blocks of 32 to 256 KiB, with gaps of 0.8 s on average", func(d *demandMaker) {
		d.constant(16*mib, midBlock, 0)
		d.bursts(0.8, 0.1, 48*mib, midBlock)
	}},
	{"small", "a peak of 16 MiB each 2 s in blocks of 16 to 1024 bytes", func(d *demandMaker) {
		d.constant(4*mib, smallBlock, 0)
		d.periodic(0, d.length, 2, 0.3, 16*mib, smallBlock, 0)
	}},
}

// demandSites are how many sites patterns use, besides none, which is 0.
const demandSites = 2

func patternNames() (list []string) {
	for _, p := range patterns {
		list = append(list, p.name)
	}
	return list
}

// patternList describes the patterns for the help text, one on each line.
func patternList() string {
	var b strings.Builder
	for _, p := range patterns {
		fmt.Fprintf(&b, "  %-8s %s\n", p.name, p.doc)
	}
	return b.String()
}

// demandOp is an allocation or a free at a time.
type demandOp struct {
	at   time.Duration // since the start, in whole milliseconds: a process cannot wait more exactly
	slot int32         // that holds the block
	site int32         // 0: none
	size int           // in bytes; 0: a free
}

// demand is the operations of a process, in the order of time.
type demand struct {
	ops   []demandOp
	slots int // how many there are
}

// digest returns a hash of the operations and their times.
func (d demand) digest() string {
	h := fnv.New64a()
	for _, op := range d.ops {
		var b [32]byte
		for i, v := range []int64{int64(op.at), int64(op.slot), int64(op.site), int64(op.size)} {
			binary.LittleEndian.PutUint64(b[i*8:], uint64(v))
		}
		h.Write(b[:])
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// makeDemand returns the demand of a pattern. It depends on its arguments only. It panics if there is no
// such pattern.
func makeDemand(name string, seed uint64, length time.Duration) demand {
	i := slices.IndexFunc(patterns, func(p pattern) bool { return p.name == name })
	h := fnv.New64a() // so that patterns have different numbers from one seed
	h.Write([]byte(name))
	d := &demandMaker{Rand: rand.New(rand.NewPCG(seed, h.Sum64())), length: length.Seconds()}
	patterns[i].make(d)
	return d.demand()
}

// demandMaker makes one demand. Times are in seconds.
type demandMaker struct {
	*rand.Rand
	length float64
	blocks []demandBlock
}

type demandBlock struct {
	from, to   time.Duration
	site, size int
}

// blockSize draws the size of a block in bytes.
type blockSize func(*rand.Rand) int

// largeBlock is 64 KiB to 1 MiB: whole pages of hakmem's.
func largeBlock(r *rand.Rand) int { return (1 + r.IntN(16)) << 16 }

// midBlock is 32 to 256 KiB, small ones as often as large ones in the logarithm.
func midBlock(r *rand.Rand) int { return int(32 * 1024 * math.Exp2(3*r.Float64())) }

// smallBlock is the same for 16 to 1024 bytes.
func smallBlock(r *rand.Rand) int { return int(16 * math.Exp2(6*r.Float64())) }

// block adds a block that lives from one time to another, at least a millisecond.
func (d *demandMaker) block(from, to float64, size, site int) {
	if from >= d.length {
		return
	}
	ms := func(s float64) time.Duration { return time.Duration(s*1000) * time.Millisecond }
	d.blocks = append(d.blocks, demandBlock{ms(from), max(ms(to), ms(from)+time.Millisecond), site, size})
}

// peak adds blocks that live from one time to another. They come in the first fifth of it and go in the
// last.
func (d *demandMaker) peak(from, to float64, bytes int, size blockSize, site int) {
	slope := 0.2 * (to - from)
	for left := bytes; left > 0; {
		n := min(size(d.Rand), left)
		left -= n
		d.block(from+slope*d.Float64(), to-slope*d.Float64(), n, site)
	}
}

// constant adds blocks that live from the start to the end.
func (d *demandMaker) constant(bytes int, size blockSize, site int) {
	for left := bytes; left > 0; {
		n := min(size(d.Rand), left)
		left -= n
		d.block(0, d.length, n, site)
	}
}

// periodic adds a peak for each period, which lasts for a part of it. Periods differ by up to 10 %.
func (d *demandMaker) periodic(from, to, period, part float64, bytes int, size blockSize, site int) {
	for at := from; at < to; {
		p := period * (0.9 + 0.2*d.Float64())
		d.peak(at, min(at+part*p, to), bytes, size, site)
		at += p
	}
}

// bursts adds peaks with exponential gaps between them.
func (d *demandMaker) bursts(gap, lasts float64, bytes int, size blockSize) {
	for at := 0.0; at < d.length; at += lasts + gap*d.ExpFloat64() {
		d.peak(at, at+lasts, bytes, size, 0)
	}
}

// follow adds blocks whose bytes follow a level. Which one is freed is random.
func (d *demandMaker) follow(level func(at float64) float64, size blockSize) {
	var live []demandBlock
	sum := 0
	end := func(i int, at float64) {
		d.block(live[i].from.Seconds(), at, live[i].size, 0)
		sum -= live[i].size
		live[i] = live[len(live)-1]
		live = live[:len(live)-1]
	}
	const step = 0.01 // a tenth of the scavenger's shortest ticks
	next := size(d.Rand)
	for at := 0.0; at < d.length; at += step {
		for float64(sum) > level(at) && len(live) > 0 {
			end(d.IntN(len(live)), at)
		}
		for float64(sum+next) <= level(at) {
			live = append(live, demandBlock{from: time.Duration(at * float64(time.Second)), size: next})
			sum += next
			next = size(d.Rand)
		}
	}
	for len(live) > 0 {
		end(len(live)-1, d.length)
	}
}

// demand returns the operations of all blocks. Those that live at the end are not freed. At one time
// frees come first, so that their slots are used again.
func (d *demandMaker) demand() demand {
	type event struct {
		at    time.Duration
		block int
		free  bool
	}
	var events []event
	for i, b := range d.blocks {
		events = append(events, event{b.from, i, false})
		if b.to.Seconds() < d.length {
			events = append(events, event{b.to, i, true})
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		order := cmp.Compare(a.at, b.at)
		if order == 0 && a.free != b.free {
			return map[bool]int{true: -1, false: 1}[a.free]
		}
		return cmp.Or(order, cmp.Compare(a.block, b.block))
	})
	var list demand
	var empty []int32
	slotOf := make([]int32, len(d.blocks))
	for _, e := range events {
		b := d.blocks[e.block]
		if e.free {
			list.ops = append(list.ops, demandOp{at: e.at, slot: slotOf[e.block]})
			empty = append(empty, slotOf[e.block])
			continue
		}
		slot := int32(list.slots)
		if n := len(empty); n > 0 {
			slot, empty = empty[n-1], empty[:n-1]
		} else {
			list.slots++
		}
		slotOf[e.block] = slot
		list.ops = append(list.ops, demandOp{e.at, slot, int32(b.site), b.size})
	}
	return list
}
