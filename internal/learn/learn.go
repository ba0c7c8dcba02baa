// Package learn decides for how long free memory is kept before it is returned to the operating
// system (Model), and which places of a program allocate blocks that live for long (Lifetimes).
//
// A free page costs memory while it is kept, and a return and a page fault if it is taken again after
// it was returned. Nobody knows in advance how long a free page will wait until it is taken. But a page
// waits equally long whether its memory was kept or not, as long as the allocator places blocks without
// regard to what was returned. So each wait that has ended says what every HOLD TIME would have cost,
// and there is nothing to try out: this is prediction with expert advice and full information
// (Cesa-Bianchi, Lugosi, Prediction, Learning, and Games, 2006, chapter 2), not a bandit problem. With
// one wait alone it is the ski-rental problem (Karlin et al., Competitive snoopy caching, 1988).
//
// A Model keeps, for each sixteenth of the addresses in use (BAND), a histogram of the waits of pages
// there. Low addresses are taken first and wait shortly, high ones are taken at peaks only; so bands
// separate time scales. Old waits are forgotten as new ones come. From a band's histogram follows what
// each of a fixed list of hold times (ARMS) would have cost. The chunks of a band, 32 pages each, share
// the arms among them, most of them the cheapest, fewer the next ones. An adversary who knows the rule
// gains less against such a mixture than against one hold time.
//
// Other learners are for other questions. A Bandit chooses where only playing an arm shows its cost. A Touch
// has bandits that say how the memory of fresh blocks is faulted in. A Board rates strategies, which are factors of what a Model and an allocator would do without one.
//
// Evolution says when what is learnt is used, kept as it is, or tried on a few decisions. A Log remembers
// what was decided, and what came of it.
//
// The package has no clock, no lock and no global state, and imports nothing of hakmem. Times are
// offsets from any fixed moment, with a resolution of a millisecond. A Model is for one goroutine at a
// time, and so are a Lifetimes and a Touch.
package learn

import (
	"math"
	"math/bits"
	"time"
)

// Costs says what memory costs, for one page. All values are in the same unit, for example CPU seconds.
type Costs struct {
	Fault  float64 // to get the memory of a page again after its return
	Return float64 // to return it
	Hold   float64 // to keep a page that nobody uses for a second
}

// BreakEven returns the time for which keeping a page costs as much as its return and its fault.
func (c Costs) BreakEven() time.Duration { return seconds((c.Fault + c.Return) / c.Hold) }

// valid reports whether the costs can be calculated with.
func (c Costs) valid() bool {
	ok := func(x float64) bool { return x >= 0 && !math.IsInf(x, 1) }
	if !ok(c.Fault) || !ok(c.Return) || !ok(c.Hold) || c.Hold == 0 {
		return false
	}
	even := (c.Fault + c.Return) / c.Hold // seconds
	return even >= leastEven && even <= mostEven
}

// leastEven and mostEven bound break-even times, in seconds: far beyond what Arms are for, and near enough
// that nothing overflows. They are a microsecond and some 30 years.
const leastEven, mostEven = 1e-6, 1e9

// Arms are the hold times that a Model chooses from. They are dense enough that the best of them costs
// at most a few percent more than the best of all (two neighbours from 0.3 s on differ by a factor of
// 1.4 to 1.5), and long enough for break-even times up to a minute.
var Arms = [...]time.Duration{
	0, 100 * ms, 200 * ms, 300 * ms, 450 * ms, 700 * ms, 1000 * ms, 1400 * ms, 2000 * ms,
	2800 * ms, 4000 * ms, 5600 * ms, 8 * time.Second, 11 * time.Second, 16 * time.Second,
	23 * time.Second, 32 * time.Second, 64 * time.Second,
}

const ms = time.Millisecond

const (
	// Bands is the number of parts into which the addresses in use are divided. With 8 to 64 the cost over
	// the optimum is the same within 0.4 %; the adversaries gain more with 32.
	Bands = 16
	// ChunkPages is how many pages share a hold time: those of a huge page of the system, 2 MiB.
	ChunkPages = 32

	// memory is how many waits of each of its pages a band remembers. With 4 to 16 the cost over the
	// optimum is the same within 0.4 % (docs/ledger.md, "The learner's constants").
	memory = 8
	// prior is how much the waits of all bands count in each, as a share of a wait of each of its pages.
	// With 0.05 to 0.4 the cost is the same within 0.5 %.
	prior = 0.1
	// endless is how many waits that never end are taken to have been seen of each page, besides those
	// that were: any wait may be the last one. Without it, hold times that are long enough all look the
	// same where waits are short, and a program that ends its work would hold memory for a minute. They
	// count as far as something else was seen of the band: half if that is endlessHalf waits of each page.
	// With them the cost over the optimum falls from 1.208 to 1.194, and the worst adversary's from 2.97 to
	// 2.84 (docs/ledger.md, "Any wait may be the last").
	endless     = 0.2
	endlessHalf = 4
	// sharpness is how fast an arm's share falls with its cost: by e for each 60th of the cost of a
	// fault and a return. 30 is 0.4 % worse on average; with 120 the worst adversary costs 3.07 times the
	// optimum, with 60 it costs 2.97.
	sharpness = 60
	// longWaits is how many break-even times a page waits before it counts as one that may never be
	// taken again. From then on no hold time up to there gains anything for it.
	longWaits = 4
	// leastLong is the least such time: a tick or two of the allocator are noise.
	leastLong = 4 * time.Second

	nArms = len(Arms)
	// scanShare: a Tick looks at a 16th of the pages for those that wait for long, so a round takes 16
	// ticks. scanLeast is how many it looks at in any case: it takes some 10 µs.
	scanShare = 16
	scanLeast = 1 << 13
)

// blockPages is how many pages share one block of the table of waiting pages: 16 KiB.
const blockPages = 4096

// waits is a histogram of waits, weighted: the sums of waits in each bin, by number and by seconds. Bin
// k has the waits up to Arms[k] that are longer than Arms[k-1], the last bin those longer than all.
type waits struct {
	n, s [nArms + 1]float64
}

// band is what is known of a band. Each field is a sum over pages, in which older ones count less.
type band struct {
	ended waits // waits that ended
	late  waits // of waits that were counted as open before they ended
	// open is how many waits were found to be long while they went on.
	open float64
}

// mass returns how many waits the band has seen, weighted.
func (b *band) mass() float64 {
	sum := b.open
	for k := range b.ended.n {
		sum += b.ended.n[k]
	}
	return sum
}

// decay lets all that was seen count less by the factor f.
func (b *band) decay(f float64) {
	for _, w := range [...]*waits{&b.ended, &b.late} {
		for k := range w.n {
			w.n[k] *= f
			w.s[k] *= f
		}
	}
	b.open *= f
}

// add adds x, weighted by f.
func (b *band) add(x *band, f float64) {
	for i, w := range [...]*waits{&b.ended, &b.late} {
		y := [...]*waits{&x.ended, &x.late}[i]
		for k := range w.n {
			w.n[k] += f * y.n[k]
			w.s[k] += f * y.s[k]
		}
	}
	b.open += f * x.open
}

// Model decides for how long free pages are kept. Pages are numbered from 0 in the order of their
// addresses. The zero Model is not usable; New makes one.
type Model struct {
	costs Costs
	long  time.Duration // a wait of this length is counted as open
	// even is what each arm is taken to cost for a page of which nothing was seen.
	even [nArms]float64

	// freed says since when a page waits: milliseconds modulo 2^31, plus 1; 0 stands for a page that
	// does not wait. The highest bit says that the wait was counted as open.
	freed []*[blockPages]uint32
	pages uint32 // one more than the highest page that ever waited or was taken
	scan  uint32 // the page at which the look for long waits goes on

	fresh   [Bands]band // what was seen since the last Tick
	seen    [Bands]band // before that
	all     band        // of all bands together
	scale   float64     // of all hold times
	scaling scaling
	frozen  bool // the hold times stay as they are
	trial   trialOf
	// trialFresh is what was seen since the last Tick of chunks in the trial, which is a part of fresh.
	trialFresh [Bands]band
	judged     judged
	// share is the part of a band's chunks that have Arms[i] or a shorter hold time, by band and arm.
	share [Bands][nArms]float32
}

// New returns a Model that has seen nothing. It begins at the break-even time of the costs. New panics
// if a cost is negative or not finite, if Hold is 0, or if Fault and Return are.
func New(c Costs) *Model {
	m := &Model{}
	m.SetScale(1)
	m.SetCosts(c)
	return m
}

// Costs returns the costs in force.
func (m *Model) Costs() Costs { return m.costs }

// SetCosts changes the costs. What was seen stays and is judged by the new ones. It panics as New does.
func (m *Model) SetCosts(c Costs) {
	if !c.valid() {
		panic("learn: costs must be finite and positive")
	}
	m.costs = c
	m.long = max(longWaits*c.BreakEven(), leastLong)
	for a, h := range Arms {
		// An arm costs the more the further it is from break-even, by the ratio of the two: so a Model
		// begins there, and the first waits outweigh it. 0.05 s stand for an arm of 0.
		m.even[a] = (c.Fault + c.Return) * (1 + math.Abs(math.Log((h.Seconds()+0.05)/c.BreakEven().Seconds())))
	}
	for i := range m.share {
		m.choose(i)
	}
}

// stampOf returns a time as it is kept for a page.
func stampOf(t time.Duration) uint32 { return uint32(t/ms)&(1<<31-1) + 1 }

// since returns the time from a stamp to now. It is right for 24 days; a stamp that seems to be older, by
// up to a quarter of an hour, is later than now, and counts as now.
func since(stamp uint32, now time.Duration) time.Duration {
	d := (stampOf(now) - stamp) & (1<<31 - 1)
	if d >= 1<<31-1<<20 {
		return 0
	}
	return time.Duration(d) * ms
}

const open = 1 << 31 // the wait was counted as open

// Freed notes that n pages from page on are free since the time at. A page that waits already waits from
// then on.
func (m *Model) Freed(page, n uint32, at time.Duration) {
	m.grow(page + n)
	stamp := stampOf(at)
	for end := page + n; page < end; {
		b := m.freed[page/blockPages]
		if b == nil {
			b = new([blockPages]uint32)
			m.freed[page/blockPages] = b
		}
		stop := min(end, (page/blockPages+1)*blockPages)
		for i := page; i < stop; i++ {
			b[i%blockPages] = stamp
		}
		page = stop
	}
}

// Taken notes that n pages from page on are used from now on. Pages that do not wait are left out.
func (m *Model) Taken(page, n uint32, now time.Duration) {
	m.grow(page + n)
	for i := page; i < page+n; i++ {
		b := m.freed[i/blockPages]
		if b == nil || b[i%blockPages] == 0 {
			continue
		}
		stamp := b[i%blockPages]
		b[i%blockPages] = 0
		m.ended(i, 1, since(stamp&^open, now), stamp&open != 0)
	}
}

// Waited notes n waits of the same length that have ended in the band of a page, for a caller that keeps
// by itself since when pages wait. A wait that was noted as Waits before counts twice then, once as a long
// one and once as what it was in the end: such a caller does not know, and for most hold times the two
// say the same.
func (m *Model) Waited(page, n uint32, wait time.Duration) {
	m.grow(page + 1)
	m.ended(page, float64(n), wait, false)
}

// ended notes n waits that have ended in the band of a page.
func (m *Model) ended(page uint32, n float64, wait time.Duration, late bool) {
	i, k := m.band(page), bin(wait)
	m.fresh[i].note(k, n, wait, late)
	if m.inTrial(page) {
		m.trialFresh[i].note(k, n, wait, late)
	}
}

// note notes n waits in bin k.
func (b *band) note(k int, n float64, wait time.Duration, late bool) {
	w := &b.ended
	if late {
		w = &b.late
	}
	w.n[k] += n
	w.s[k] += n * wait.Seconds()
}

// opened notes n waits that have become long in the band of a page.
func (m *Model) opened(page uint32, n float64) {
	i := m.band(page)
	m.fresh[i].open += n
	if m.inTrial(page) {
		m.trialFresh[i].open += n
	}
}

// inTrial reports whether the chunk of a page is in a trial.
func (m *Model) inTrial(page uint32) bool { return m.trial.in != nil && m.trial.in(page/ChunkPages) }

// Waits notes n waits that have lasted for Long and go on.
func (m *Model) Waits(page, n uint32) {
	m.grow(page + 1)
	m.opened(page, float64(n))
}

// Long is the time after which a wait counts as one that may never end.
func (m *Model) Long() time.Duration { return m.long }

// grow makes room for the pages below end.
func (m *Model) grow(end uint32) {
	if end > m.pages {
		m.pages = end
	}
	for uint32(len(m.freed))*blockPages < end {
		m.freed = append(m.freed, nil)
	}
}

// binOf maps the length of a number of milliseconds in bits to the first bin that such a wait can have.
var binOf = func() (t [32]uint8) {
	for l := range t {
		least := time.Duration(0)
		if l > 0 {
			least = ms << (l - 1)
		}
		for int(t[l]) < nArms && Arms[t[l]] < least {
			t[l]++
		}
	}
	return t
}()

// bin returns the bin of a wait.
func bin(wait time.Duration) int {
	if wait > Arms[nArms-1] {
		return nArms
	}
	k := int(binOf[bits.Len32(uint32(wait/ms))])
	for k < nArms && Arms[k] < wait {
		k++
	}
	return k
}

// band returns the band of a page.
func (m *Model) band(page uint32) int {
	return min(int(uint64(page)*Bands/uint64(max(m.pages, Bands))), Bands-1)
}

// size returns how many pages a band has, at least 1.
func (m *Model) size() float64 { return max(float64(m.pages)/Bands, 1) }

// Tick learns from what was noted since the last Tick. Tens of milliseconds to a second should lie
// between two of them. It takes some 15 µs, and a nanosecond for each 16th page.
func (m *Model) Tick(now time.Duration) {
	m.findLong(now)
	size, changed := m.size(), false
	for i := range m.fresh {
		f := &m.fresh[i]
		w := f.all()
		if w == 0 {
			continue
		}
		m.judge(i, f, &m.trialFresh[i])
		m.trialFresh[i] = band{}
		if m.frozen {
			*f = band{}
			continue
		}
		m.seen[i].decay(math.Exp(-w / (memory * size)))
		m.seen[i].add(f, 1)
		m.all.decay(math.Exp(-w / (memory * size * Bands)))
		m.all.add(f, 1)
		*f = band{}
		changed = true
	}
	if changed {
		for i := range m.share {
			m.choose(i)
		}
	}
}

// findLong counts pages that have waited for long as open.
func (m *Model) findLong(now time.Duration) {
	if m.pages == 0 {
		return
	}
	n := min(max(m.pages/scanShare, scanLeast), m.pages)
	for ; n > 0; n-- {
		if m.scan >= m.pages {
			m.scan = 0
		}
		b := m.freed[m.scan/blockPages]
		if b == nil {
			skip := min(blockPages-m.scan%blockPages, n)
			m.scan += skip
			n -= skip - 1
			continue
		}
		if at := &b[m.scan%blockPages]; *at != 0 && *at&open == 0 && since(*at, now) >= m.long {
			*at |= open
			m.opened(m.scan, 1)
		}
		m.scan++
	}
}

// choose shares the arms among the chunks of band i.
func (m *Model) choose(i int) {
	size, c := m.size(), m.costs
	own, all := m.cost(&m.seen[i]), m.cost(&m.all)
	mass, ownMass := m.all.mass(), m.seen[i].mass()
	never := endless * size * ownMass / (ownMass + endlessHalf*size)
	lowest := math.Inf(1)
	for a := range own {
		own[a] += prior * size * (all[a] + size*m.even[a]) / (mass + size)
		own[a] += never * Arms[a].Seconds() * c.Hold // the return is the same for all
		lowest = min(lowest, own[a])
	}
	sum := 0.0
	for a := range own {
		own[a] = math.Exp(-sharpness * (own[a] - lowest) / ((c.Fault + c.Return) * size))
		sum += own[a]
	}
	part := 0.0
	for a := range own {
		part += own[a] / sum
		m.share[i][a] = float32(part)
	}
	m.share[i][nArms-1] = 1
}

// outcome is what came of waits, or what would have: faults and returns, by number, and the seconds for
// which pages were held.
type outcome struct{ faults, returns, held float64 }

// at returns what an outcome costs.
func (o outcome) at(c Costs) float64 { return o.faults*c.Fault + o.returns*c.Return + o.held*c.Hold }

// outcomes returns what would have come of the waits of b with each arm. A wait of long or more was counted
// as open before it ended.
func (b *band) outcomes(long float64) (out [nArms]outcome) {
	// From arm to arm waits go over from those that are longer than the hold time, which end in a return and
	// a fault, to those that end while the page is kept.
	var longer, lateLonger float64
	for k := range b.ended.n {
		longer += b.ended.n[k]
		lateLonger += b.late.n[k]
	}
	var held, lateHeld, lateEnded float64 // seconds of waits within the hold time
	for a, h := range Arms {
		longer -= b.ended.n[a]
		held += b.ended.s[a]
		lateLonger -= b.late.n[a]
		lateHeld += b.late.s[a]
		lateEnded += b.late.n[a]
		hs := h.Seconds()
		o := outcome{faults: longer, returns: longer, held: held + longer*hs}
		if hs < long { // an open wait: the page was returned, and a late end of it costs a fault
			o.returns += b.open
			o.held += b.open * hs
			o.faults += lateEnded + lateLonger
		} else {
			o.returns += lateLonger
			o.faults += lateLonger
			o.held += b.open*long + max(lateHeld-lateEnded*long, 0) + lateLonger*(hs-long)
		}
		out[a] = o
	}
	return out
}

// cost returns what each arm would have cost on the waits of b.
func (m *Model) cost(b *band) (cost [nArms]float64) {
	for a, o := range b.outcomes(m.long.Seconds()) {
		cost[a] = o.at(m.costs)
	}
	return cost
}

// Hold returns for how long a page is kept after it was freed. All pages of a chunk have the same hold
// time. It takes some 15 ns.
func (m *Model) Hold(page uint32) time.Duration {
	share := &m.share[m.band(page)]
	// Multiples of the golden ratio, modulo 1, spread evenly over any run of chunks.
	u := float32((page/ChunkPages+1)*2654435769>>8) / (1 << 24)
	hold, scale := Arms[nArms-1], m.scale
	for a := range share {
		if u < share[a] {
			hold = Arms[a]
			break
		}
	}
	if m.inTrial(page) {
		scale = m.trial.scale
	}
	if scale == 1 {
		return hold
	}
	return time.Duration(scale * float64(hold))
}

// Mean returns the mean of the hold times of all pages.
func (m *Model) Mean() time.Duration {
	sum := 0.0
	for i := range m.share {
		sum += m.mean(i)
	}
	return seconds(m.scale * sum / Bands)
}

// mean returns the mean of the hold times of band i, in seconds.
func (m *Model) mean(i int) (sum float64) {
	before := float32(0)
	for a, s := range m.share[i] {
		sum += float64(s-before) * Arms[a].Seconds()
		before = s
	}
	return sum
}

// Since returns for how long a page waits at the given time, and reports whether it waits.
func (m *Model) Since(page uint32, now time.Duration) (wait time.Duration, waits bool) {
	if page >= m.pages {
		return 0, false
	}
	b := m.freed[page/blockPages]
	if b == nil || b[page%blockPages] == 0 {
		return 0, false
	}
	return since(b[page%blockPages]&^open, now), true
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s*float64(time.Second), math.MaxInt64/16))
}
