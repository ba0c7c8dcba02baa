package sim

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// Run is a run of pages that are taken or freed at a time.
type run struct {
	at      time.Duration
	page, n uint32
	taken   bool
}

// Placed is a Program of which each block has its pages.
type Placed struct {
	Name   string
	Length time.Duration
	Pages  uint32 // how many pages were ever used

	runs  []run
	gaps  []gap
	waits waits
}

// Place puts the blocks of p on pages: each on the lowest free ones that suffice.
func Place(p *Program) *Placed {
	placed := &Placed{Name: p.Name, Length: p.Length, runs: make([]run, 0, len(p.Events))}
	type place struct{ page, n uint32 }
	where := make([]place, p.Blocks)
	var space space
	var clock waitClock
	for _, e := range p.Events {
		n := uint32(e.Pages)
		if n > 0 {
			where[e.Block] = place{space.take(n), n}
		} else {
			space.set(where[e.Block].page, where[e.Block].n, false)
		}
		w := where[e.Block]
		placed.Pages = max(placed.Pages, w.page+w.n)
		placed.runs = append(placed.runs, run{e.At, w.page, w.n, n > 0})
		if n > 0 {
			clock.taken(w.page, w.n, e.At)
		} else {
			clock.freed(w.page, w.n, e.At)
		}
	}
	placed.end(&clock)
	return placed
}

// end takes the waits of a program that is at its end.
func (p *Placed) end(clock *waitClock) { p.waits, p.gaps = clock.end(p.Length), clock.gaps }

// space says which pages are used: a bit for each.
type space []uint64

// take finds the lowest n free pages in a row and marks them as used.
func (s *space) take(n uint32) uint32 {
	page := s.next(0, false)
	for {
		end := s.next(page, true)
		if end-page >= n {
			s.set(page, n, true)
			return page
		}
		page = s.next(end, false)
	}
}

// next returns the first page from page on that is used, or that is not. If there is none that is used,
// it returns the highest number.
func (s *space) next(page uint32, used bool) uint32 {
	for i := page / 64; i < uint32(len(*s)); i++ {
		w := (*s)[i]
		if !used {
			w = ^w
		}
		if i == page/64 {
			w &= ^uint64(0) << (page % 64)
		}
		if w != 0 {
			return i*64 + uint32(bits.TrailingZeros64(w))
		}
	}
	if used {
		return math.MaxUint32
	}
	return max(page, uint32(len(*s))*64)
}

// set marks n pages as used or as free.
func (s *space) set(page, n uint32, used bool) {
	for uint32(len(*s))*64 < page+n {
		*s = append(*s, 0)
	}
	for i := page; i < page+n; i++ {
		if used {
			(*s)[i/64] |= 1 << (i % 64)
		} else {
			(*s)[i/64] &^= 1 << (i % 64)
		}
	}
}

// wait is all waits of one length that began at one time before a tick.
type wait struct {
	length time.Duration
	phase  time.Duration // how long after the wait's begin the first tick comes
	ended  float64       // how many ended when their page was taken
	last   float64       // how many lasted until the program's end
}

// waits is all waits of a program, by length and phase.
type waits []wait

// gap is the waits of pages that began and ended together.
type gap struct {
	from, to time.Duration
	pages    float64
	last     bool // they lasted until the program's end
}

// waitClock measures waits.
type waitClock struct {
	since []time.Duration // since when a page waits; -1: it does not
	n     map[[2]time.Duration]wait
	gaps  []gap
}

const never = -1 // it does not wait

func (c *waitClock) grow(end uint32) {
	for uint32(len(c.since)) < end {
		c.since = append(c.since, never)
	}
}

func (c *waitClock) freed(page, n uint32, now time.Duration) {
	c.grow(page + n)
	for i := page; i < page+n; i++ {
		c.since[i] = now
	}
}

func (c *waitClock) taken(page, n uint32, now time.Duration) {
	c.grow(page + n)
	for i := page; i < page+n; {
		// Neighbours that were freed at one time are counted at once.
		j := i + 1
		for j < page+n && c.since[j] == c.since[i] {
			j++
		}
		if c.since[i] != never {
			c.count(gap{c.since[i], now, float64(j - i), false})
		}
		for ; i < j; i++ {
			c.since[i] = never
		}
	}
}

// count counts waits.
func (c *waitClock) count(g gap) {
	if c.n == nil {
		c.n = map[[2]time.Duration]wait{}
	}
	phase := (Tick - g.from%Tick) % Tick
	key := [2]time.Duration{g.to - g.from, phase}
	w := c.n[key]
	w.length, w.phase = g.to-g.from, phase
	if g.last {
		w.last += g.pages
	} else {
		w.ended += g.pages
	}
	c.n[key] = w
	c.gaps = append(c.gaps, g)
}

// end returns the waits of a program that ends now.
func (c *waitClock) end(now time.Duration) waits {
	for i := 0; i < len(c.since); {
		j := i + 1
		for j < len(c.since) && c.since[j] == c.since[i] {
			j++
		}
		if c.since[i] != never {
			c.count(gap{c.since[i], now, float64(j - i), true})
		}
		i = j
	}
	var all waits
	for _, w := range c.n {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b wait) int {
		return cmp.Or(cmp.Compare(a.length, b.length), cmp.Compare(a.phase, b.phase))
	})
	return all
}

// optimum returns what the waits cost if their lengths are known.
func (w waits) optimum(c learn.Costs) (sum float64) {
	for _, x := range w {
		kept := x.length.Seconds() * c.Hold
		sum += x.ended*min(kept, c.Return+c.Fault) + x.last*min(kept, c.Return)
	}
	return sum
}

// static returns what the waits cost if each page is kept for a fixed time. It is returned right then,
// or at the first tick from then on.
func (w waits) static(hold time.Duration, ticks bool, c learn.Costs) (sum float64) {
	for _, x := range w {
		kept := hold
		if ticks {
			kept = atTick(hold, x.phase)
		}
		if x.length <= kept {
			sum += (x.ended + x.last) * x.length.Seconds() * c.Hold
		} else {
			sum += (x.ended+x.last)*(kept.Seconds()*c.Hold+c.Return) + x.ended*c.Fault
		}
	}
	return sum
}

// atTick returns how long a page is kept that is to be kept for hold, if pages are returned at ticks only.
// The first tick comes a phase after the page was freed.
func atTick(hold, phase time.Duration) time.Duration {
	if hold == Forever {
		return hold
	}
	return phase + max(hold-phase+Tick-1, 0)/Tick*Tick
}

// Optimum returns the least that a program can cost: the lesser of keeping and returning for each wait.
func Optimum(p *Placed, c learn.Costs) float64 { return p.waits.optimum(c) }

// Static returns what a program costs if each page is kept for a fixed time and returned right then, as
// if there were a tick at each moment.
func Static(p *Placed, hold time.Duration, c learn.Costs) float64 {
	return p.waits.static(hold, false, c)
}

// StaticAtTicks returns the same if pages are returned at ticks. It is what Run would find for Fixed.
func StaticAtTicks(p *Placed, hold time.Duration, c learn.Costs) float64 {
	return p.waits.static(hold, true, c)
}

// Forever is the hold time of a page that is never returned.
const Forever = time.Duration(math.MaxInt64)

// grid is the hold times that BestStatic tries: 0, from half a tick by steps of 15 % to 130 s, twice the
// longest of the learner's arms, Forever, and the arms themselves.
var grid = func() []time.Duration {
	g := append([]time.Duration{0, Forever}, learn.Arms[:]...)
	for h := 0.05; h <= 130; h *= 1.15 {
		g = append(g, time.Duration(h*float64(time.Second)))
	}
	slices.Sort(g)
	return slices.Compact(g)
}()

// BestStatic returns the fixed hold time that is the cheapest for the program in hindsight, and what it
// costs. Pages are returned right then, not at ticks.
func BestStatic(p *Placed, c learn.Costs) (cost float64, hold time.Duration) {
	cost = math.Inf(1)
	for _, h := range grid {
		if x := Static(p, h, c); x < cost {
			cost, hold = x, h
		}
	}
	return cost, hold
}

// Result is what a policy did.
type Result struct {
	Cost            float64
	HeldPageSeconds float64   // how long free pages were kept
	Faults, Returns int       // pages
	Curve           []float64 // the cost so far, at CurvePoints times that divide the program evenly
	// Plays is how many waits of pages had a hold time of up to Arms[i], and longer than the arm before, when
	// they ended or their page was returned. The last one has those longer than all arms. It is 0 for
	// policies that name pages and not times.
	Plays [len(learn.Arms) + 1]int
}

const (
	// Tick is the time between two ticks. hakmem's scavenger has one of 55 to 308 ms (ticksPerWindow).
	Tick = 100 * time.Millisecond
	// CurvePoints is the number of points of a curve: some 10 pixels apart in a drawing.
	CurvePoints = 50
)

// marks returns the times at which a curve has its points. The last one is the program's end.
func (p *Placed) marks() []time.Duration {
	list := make([]time.Duration, CurvePoints)
	for i := range list {
		list[i] = p.Length / CurvePoints * time.Duration(i+1)
	}
	list[CurvePoints-1] = p.Length
	return list
}

// Run replays a program for a policy. At one moment blocks are freed and taken first, then comes the
// tick. p is only read.
func Run(p *Placed, policy Policy, c learn.Costs) Result { return p.run(policy, c, p.marks()) }

// run is Run with the curve's points at other times, in order, none beyond the end.
func (p *Placed) run(policy Policy, c learn.Costs, marks []time.Duration) Result {
	m := newMachine(policy, c, p.Pages, marks)
	for _, r := range p.runs {
		m.run(r.at)
		if r.taken {
			m.take(r.page, r.n)
		} else {
			m.free(r.page, r.n)
		}
	}
	m.run(p.Length)
	return m.result()
}

// state is that of a page.
type state uint8

const (
	untouched state = iota
	used
	kept     // free, and has memory
	returned // free, and has none
)

// machine is the memory of a program under a policy.
type machine struct {
	policy Policy
	costs  learn.Costs
	chooser
	pacer

	now      time.Duration
	nextTick time.Duration   // the first tick is at the start
	marks    []time.Duration // when the curve has its next points

	state []state
	since []time.Duration // when a page was freed
	kept  space           // the pages that are kept
	n     int             // how many these are
	held  time.Duration   // the sum of the times for which pages were kept

	faults, returns int
	curve           []float64
	plays           [len(learn.Arms) + 1]int
}

func newMachine(policy Policy, c learn.Costs, pages uint32, marks []time.Duration) *machine {
	m := &machine{policy: policy, costs: c, marks: marks,
		state: make([]state, pages), since: make([]time.Duration, pages), kept: make(space, (pages+63)/64)}
	m.chooser, _ = policy.(chooser)
	m.pacer, _ = policy.(pacer)
	return m
}

// run lets time pass until shortly before what happens next: all ticks before now, and the points of the
// curve.
func (m *machine) run(now time.Duration) {
	for {
		mark := Forever
		if len(m.marks) > 0 {
			mark = m.marks[0]
		}
		if min(m.nextTick, mark) >= now {
			break
		}
		// A point of the curve that is due with a tick comes after it.
		if m.nextTick <= mark {
			m.pass(m.nextTick)
			m.tick()
		} else {
			m.pass(mark)
			m.curve = append(m.curve, m.cost())
			m.marks = m.marks[1:]
		}
	}
	m.pass(now)
}

// pass lets time pass.
func (m *machine) pass(now time.Duration) {
	m.held += time.Duration(m.n) * (now - m.now)
	m.now = now
}

func (m *machine) cost() float64 {
	return m.held.Seconds()*m.costs.Hold + float64(m.faults)*m.costs.Fault + float64(m.returns)*m.costs.Return
}

func (m *machine) result() Result {
	for range m.marks { // those at the end
		m.curve = append(m.curve, m.cost())
	}
	return Result{m.cost(), m.held.Seconds(), m.faults, m.returns, m.curve, m.plays}
}

// take has n pages used from now on.
func (m *machine) take(page, n uint32) {
	for i := page; i < page+n; i++ {
		switch m.state[i] {
		case kept:
			if m.chooser == nil {
				m.play(m.policy.Hold(i))
			}
			m.unkeep(i)
		case returned:
			m.faults++
		}
		m.state[i] = used
	}
	m.policy.Taken(page, n, m.now)
}

// free has n pages free from now on.
func (m *machine) free(page, n uint32) {
	for i := page; i < page+n; i++ {
		m.state[i] = kept
		m.since[i] = m.now
		m.kept[i/64] |= 1 << (i % 64)
	}
	m.n += int(n)
	m.policy.Freed(page, n, m.now)
}

func (m *machine) unkeep(page uint32) {
	m.kept[page/64] &^= 1 << (page % 64)
	m.n--
}

func (m *machine) giveBack(page uint32) {
	m.unkeep(page)
	m.state[page] = returned
	m.returns++
}

// play counts a wait with a hold time.
func (m *machine) play(hold time.Duration) {
	i, _ := slices.BinarySearch(learn.Arms[:], hold)
	m.plays[i]++
}

// tick returns the pages that the policy does not want to keep.
func (m *machine) tick() {
	m.policy.Tick(m.now)
	m.nextTick += Tick
	if m.pacer != nil {
		m.nextTick = m.now + m.pacer.Pace()
	}
	if m.chooser != nil {
		for _, page := range m.chooser.Choose(m.now) {
			m.giveBack(page)
		}
		return
	}
	for i, w := range m.kept {
		for ; w != 0; w &= w - 1 {
			page := uint32(i*64 + bits.TrailingZeros64(w))
			if hold := m.policy.Hold(page); m.now-m.since[page] >= hold {
				m.play(hold)
				m.giveBack(page)
			}
		}
	}
}
