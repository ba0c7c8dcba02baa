package trace

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
)

// How a distribution becomes a tape. A population belongs to one call of Distribution.Tape.

// TapeOptions say how a Distribution becomes a tape. The zero value is a good start.
type TapeOptions struct {
	// Ops is how many operations follow the initial ones, births and deaths together; 0 means a
	// million.
	Ops int
	// LiveBytes is how many bytes are to be live, of all threads together; 0 means 256 MiB. It is a
	// ceiling: a distribution that has fewer live bytes keeps them.
	LiveBytes uint64
	// Scale, if above 0, is used instead of LiveBytes: the factor by which the live blocks of each
	// class are multiplied.
	Scale float64
	// MaxSize is the size to which larger blocks are cut, in bytes; 0 means 64 MiB.
	MaxSize uint64
	// Threads is how many threads share the operations and the live bytes equally; 0 means 1.
	Threads int
	// Seed starts the random sequence. The same options, seed and distribution give the same tape,
	// on every machine.
	Seed uint64
}

const (
	defaultOps       = 1_000_000 // a second's worth or less; google/fleetbench's number, too
	defaultLiveBytes = 256 << 20 // bytes: far beyond caches and TLBs, and no burden to a small machine
	defaultMaxBlock  = 64 << 20  // bytes: a quarter of the live ones

	// MaxOps bounds TapeOptions.Ops: 6 GiB of operations. maxInitial bounds the initial operations,
	// 1.5 GiB.
	MaxOps     = 1 << 28
	maxInitial = 1 << 26
	// maxThreads is that of package bench: more show nothing new.
	maxThreads = 4096

	// minLive is the smallest number of live blocks, of a thread and class, from which a death rate
	// is computed, so that a class without blocks has a death rate too. It makes the mean of such a
	// class 2^-20 blocks instead of 0: 64 bytes, if its blocks are the largest.
	minLive = 1.0 / (1 << 20)
)

// Tape makes a tape of allocations and frees in the steady state of the distribution.
//
// The next operation is a birth of a class with a probability proportional to its rate, or a death
// of a class with one proportional to its blocks times their death rate, rate/live; which block of
// the class dies is a matter of chance. So lifetimes are exponential, and the blocks of a class
// hover about its live blocks. To have fewer live bytes, the live blocks of each class are scaled
// down, and thereby the lifetimes; the rates stay.
//
// A class of which less than one block is live after scaling needs no special case while the tape
// runs: its births keep their rate and its blocks die so soon that it has none most of the time,
// though not before the operation after their birth. Only the initial population must be whole: see
// populate.
//
// Each thread has a population, slots and random numbers of its own, and the threads take turns.
//
// Errors are options out of range, a distribution in which nothing is born, and one whose initial
// population would be too large.
func (d Distribution) Tape(o TapeOptions) (*Tape, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	scale, err := d.scale(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	}
	t := &Tape{Threads: o.Threads}
	threads := make([]*population, o.Threads)
	initial := make([][]Op, o.Threads)
	most := 0
	for i := range threads {
		p := newPopulation(d, o, scale, uint32(i))
		threads[i], initial[i] = p, p.populate()
		t.Initial += len(initial[i])
		most = max(most, len(initial[i]))
	}
	t.Ops = make([]Op, 0, t.Initial+o.Ops)
	for i := range most {
		for _, ops := range initial {
			if i < len(ops) {
				t.Ops = append(t.Ops, ops[i])
			}
		}
	}
	for i := range o.Ops {
		t.Ops = append(t.Ops, threads[i%len(threads)].step())
	}

	// Each thread's slots become a range of the tape's slots. If threads took turns there, they
	// would write to each other's cache lines.
	first := make([]uint32, o.Threads)
	for i, p := range threads {
		first[i] = uint32(t.Slots)
		t.Slots += (len(p.seq) + slotPad - 1) / slotPad * slotPad
	}
	for i := range t.Ops {
		t.Ops[i].Slot += first[t.Ops[i].Thread]
	}
	t.PeakLive, t.PeakBlocks, err = t.measure()
	if err != nil {
		return nil, fmt.Errorf("%s: generated wrongly, please report this: %w", d.Name, err)
	}
	return t, nil
}

// complete sets the options that are 0, and checks all.
func (o *TapeOptions) complete() error {
	if o.Ops == 0 {
		o.Ops = defaultOps
	}
	if o.LiveBytes == 0 {
		o.LiveBytes = defaultLiveBytes
	}
	if o.MaxSize == 0 {
		o.MaxSize = defaultMaxBlock
	}
	if o.Threads == 0 {
		o.Threads = 1
	}
	switch {
	case o.Threads < 0 || o.Threads > maxThreads:
		return fmt.Errorf("%d threads: use 1 to %d", o.Threads, maxThreads)
	case o.Ops < o.Threads || o.Ops > MaxOps:
		return fmt.Errorf("%d operations: use %d, one for each thread, to %d", o.Ops, o.Threads, MaxOps)
	case o.MaxSize > maxBlock:
		return fmt.Errorf("largest size of %d bytes: use at most %d", o.MaxSize, uint64(maxBlock))
	case !(o.Scale >= 0 && o.Scale <= maxQuantity):
		return fmt.Errorf("scale %g: use a number above 0, or 0 to go by the live bytes", o.Scale)
	}
	return nil
}

// scale returns the factor for the live blocks of every class.
func (d Distribution) scale(o TapeOptions) (float64, error) {
	var rate, blocks, bytes float64
	for _, c := range d.Classes {
		rate += c.Rate
		blocks += c.Live
		bytes += float64(c.Live * float64(min(c.Size, o.MaxSize)))
	}
	scale := o.Scale
	if scale == 0 {
		scale = 1
		if bytes > float64(o.LiveBytes) {
			scale = float64(o.LiveBytes) / bytes
		}
	}
	switch {
	case rate == 0:
		return 0, fmt.Errorf("the rates of all %d rows are 0: give those that are allocated a rate", len(d.Classes))
	case blocks*scale > maxInitial:
		return 0, fmt.Errorf("%.0f live blocks: use fewer live bytes or a smaller scale, for at most %d", blocks*scale, maxInitial)
	}
	return scale, nil
}

// A population is the set of blocks that one thread has live.
type population struct {
	thread uint32
	rng    *rand.PCG // its sequence is specified; the sequences of package rand's methods are not
	sizes  []uint64  // bytes, by class
	live   []float64 // blocks expected, by class
	death  []float64 // death rate of one block, by class
	// next has the weights of the possible next operations: of a birth in each class and, from
	// len(sizes) on, of a death in each class.
	next   sumTree
	blocks [][]uint32 // slots of the live blocks, by class
	idle   []uint32   // empty slots; the last one emptied is used first
	seq    []uint32   // of the next operation, by slot
}

func newPopulation(d Distribution, o TapeOptions, scale float64, thread uint32) *population {
	n := len(d.Classes)
	p := &population{
		thread: thread,
		rng:    rand.NewPCG(o.Seed, uint64(thread)),
		sizes:  make([]uint64, n),
		live:   make([]float64, n),
		death:  make([]float64, n),
		next:   newSumTree(2 * n),
		blocks: make([][]uint32, n),
	}
	rates := 0.0
	for _, c := range d.Classes {
		rates += c.Rate
	}
	for i, c := range d.Classes {
		birth := c.Rate / rates
		p.sizes[i] = min(c.Size, o.MaxSize)
		p.live[i] = float64(c.Live*scale) / float64(o.Threads)
		p.death[i] = birth / max(p.live[i], minLive)
		p.next.set(i, birth)
	}
	return p
}

// populate allocates the initial population: the expected blocks of each class, rounded down or up
// by chance so that the mean is right, all in random order. Classes share one rounding error, which
// passes from each class to the next. If each class had its own, the errors of many rare classes of
// large blocks would add up.
func (p *population) populate() []Op {
	var classes []uint32 // one for each block
	expected, whole := p.float(), 0.0
	for c, live := range p.live {
		expected += live
		for ; whole+1 <= expected; whole++ {
			classes = append(classes, uint32(c))
		}
	}
	for i := len(classes) - 1; i > 0; i-- {
		j := p.below(i + 1)
		classes[i], classes[j] = classes[j], classes[i]
	}
	ops := make([]Op, len(classes))
	for i, c := range classes {
		ops[i] = p.birth(int(c))
	}
	return ops
}

// step is the next operation.
func (p *population) step() Op {
	c := p.next.find(p.float())
	if c < len(p.sizes) {
		return p.birth(c)
	}
	return p.kill(c - len(p.sizes))
}

func (p *population) birth(class int) Op {
	var s uint32
	if n := len(p.idle); n > 0 {
		s, p.idle = p.idle[n-1], p.idle[:n-1]
	} else {
		s, p.seq = uint32(len(p.seq)), append(p.seq, 0)
	}
	p.blocks[class] = append(p.blocks[class], s)
	p.reweigh(class)
	return p.op(Op{Size: p.sizes[class], Slot: s, Kind: Malloc})
}

func (p *population) kill(class int) Op {
	blocks := p.blocks[class]
	i, last := p.below(len(blocks)), len(blocks)-1
	s := blocks[i]
	blocks[i] = blocks[last]
	p.blocks[class] = blocks[:last]
	p.reweigh(class)
	p.idle = append(p.idle, s)
	return p.op(Op{Slot: s, Kind: Free})
}

func (p *population) reweigh(class int) {
	p.next.set(len(p.sizes)+class, float64(len(p.blocks[class]))*p.death[class])
}

func (p *population) op(op Op) Op {
	op.Thread, op.Seq = p.thread, p.seq[op.Slot]
	p.seq[op.Slot]++
	return op
}

// float returns a random number from 0 to below 1, of 53 bits.
func (p *population) float() float64 {
	return float64(p.rng.Uint64()>>11) * 0x1p-53
}

// below returns a random number from 0 to below n. It prefers some numbers by n/2^64, which no tape
// is long enough to show.
func (p *population) below(n int) int {
	hi, _ := bits.Mul64(p.rng.Uint64(), uint64(n))
	return int(hi)
}

// A sumTree has weights, and finds one by a point on their sum. Each sum is computed anew from its
// two parts. If sums were kept up by adding differences they would drift, and weights of 0 might be
// found.
type sumTree []float64 // 1 is the root; i has the children 2i and 2i+1; leaves are the second half

func newSumTree(n int) sumTree {
	return make(sumTree, 2<<bits.Len(uint(n-1)))
}

func (t sumTree) set(i int, weight float64) {
	i += len(t) / 2
	t[i] = weight
	for i >>= 1; i > 0; i >>= 1 {
		t[i] = t[2*i] + t[2*i+1]
	}
}

// find returns the index of a weight above 0; there must be one. It is the weight into which the
// point falls. part is that point, from 0 to below 1 of the weights' sum.
func (t sumTree) find(part float64) int {
	at := float64(part * t[1])
	i := 1
	for i < len(t)/2 {
		i *= 2
		// Rounding may put the point behind the last weight; then the right side is empty.
		if at >= t[i] && t[i+1] > 0 {
			at -= t[i]
			i++
		}
	}
	return i - len(t)/2
}
