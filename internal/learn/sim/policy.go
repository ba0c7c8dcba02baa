package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// Policy decides for how long free pages are kept. A learn.Model is one.
type Policy interface {
	// Freed notes that n pages from page on are free since the time at.
	Freed(page, n uint32, at time.Duration)
	// Taken notes that n pages from page on are used from now on.
	Taken(page, n uint32, now time.Duration)
	// Tick is called before pages are returned.
	Tick(now time.Duration)
	// Hold returns for how long a page is kept after it was freed.
	Hold(page uint32) time.Duration
}

// chooser is a Policy that names the pages to return. Its Hold is not called.
type chooser interface {
	Choose(now time.Duration) []uint32
}

// pacer is a Policy that says how long it is until the next tick.
type pacer interface {
	Pace() time.Duration
}

// Maker makes Policies of one kind.
type Maker struct {
	Name string
	New  func(c learn.Costs, seed uint64) Policy
}

// Names of Makers.
const (
	nameLearner   = "learner"
	nameBreakEven = "break-even"
	nameSkiRental = "random ski rental"
	nameWindow    = "window"
	nameRandom    = "random arm"
	nameShuffled  = "shuffled"
)

// Makers returns all policies that Evaluate compares.
func Makers() []Maker {
	return []Maker{
		{nameLearner, Learner},
		{nameBreakEven, func(c learn.Costs, _ uint64) Policy { return Fixed(c.BreakEven()) }},
		{nameSkiRental, RandomSkiRental},
		{nameWindow, Window},
		{nameRandom, RandomArm},
		{nameShuffled, Shuffled},
	}
}

// Learner returns a learn.Model that has seen nothing.
func Learner(c learn.Costs, _ uint64) Policy { return learn.New(c) }

// blind is a Policy that notes nothing.
type blind struct{}

func (blind) Freed(page, n uint32, at time.Duration)  {}
func (blind) Taken(page, n uint32, now time.Duration) {}
func (blind) Tick(now time.Duration)                  {}

// fixed keeps each page for the same time.
type fixed struct {
	blind
	hold time.Duration
}

// Fixed returns a policy that keeps each page for the same time.
func Fixed(hold time.Duration) Policy { return fixed{hold: hold} }

func (f fixed) Hold(uint32) time.Duration { return f.hold }

// skiRental draws a hold time for each wait.
type skiRental struct {
	blind
	rng  *rand.Rand
	even float64 // break-even
	hold []time.Duration
}

// RandomSkiRental returns the policy that is the best against an adversary who does not see its draws:
// of the hold times up to break-even, h has the density exp(h)/(e-1), in units of break-even.
func RandomSkiRental(c learn.Costs, seed uint64) Policy {
	return &skiRental{rng: generatorOf(seed), even: float64(c.BreakEven())}
}

// generatorOf returns the source of a policy's draws. Its stream differs from those of programs.
func generatorOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func (s *skiRental) Freed(page, n uint32, _ time.Duration) {
	s.hold = grown(s.hold, page+n)
	for i := page; i < page+n; i++ {
		s.hold[i] = time.Duration(s.even * math.Log(1+s.rng.Float64()*(math.E-1)))
	}
}

func (s *skiRental) Hold(page uint32) time.Duration { return s.hold[page] }

// grown returns the list with at least n entries.
func grown[T any](list []T, n uint32) []T {
	if uint32(len(list)) < n {
		list = append(list, make([]T, n-uint32(len(list)))...)
	}
	return list
}

// randomArm plays arms that are drawn.
type randomArm struct {
	rng  *rand.Rand
	arms []time.Duration // by chunk
	next time.Duration
}

// RandomArm returns a policy that draws one of the learner's arms for each chunk every second.
func RandomArm(_ learn.Costs, seed uint64) Policy { return &randomArm{rng: generatorOf(seed)} }

func (r *randomArm) Freed(page, n uint32, _ time.Duration) {
	for uint32(len(r.arms))*learn.ChunkPages < page+n {
		r.arms = append(r.arms, r.draw())
	}
}

func (r *randomArm) Taken(page, n uint32, now time.Duration) {}

func (r *randomArm) draw() time.Duration { return learn.Arms[r.rng.IntN(len(learn.Arms))] }

func (r *randomArm) Tick(now time.Duration) {
	if now < r.next {
		return
	}
	r.next = now + time.Second
	for i := range r.arms {
		r.arms[i] = r.draw()
	}
}

func (r *randomArm) Hold(page uint32) time.Duration { return r.arms[page/learn.ChunkPages] }

// shuffled plays another arm than the learner's.
type shuffled struct {
	*learn.Model
	rng  *rand.Rand
	perm []int
	next time.Duration
}

// reshuffled is how long one permutation is in force: about a break-even time of the middle price.
const reshuffled = 2 * time.Second

// Shuffled returns a learner whose arms are exchanged at random: the costs that it has learnt of one
// become those of another. Its difference to the learner is what is in the costs.
func Shuffled(c learn.Costs, seed uint64) Policy {
	s := &shuffled{Model: learn.New(c), rng: generatorOf(seed)}
	s.perm = s.rng.Perm(len(learn.Arms))
	return s
}

func (s *shuffled) Tick(now time.Duration) {
	s.Model.Tick(now)
	if now >= s.next {
		s.next = now + reshuffled
		s.perm = s.rng.Perm(len(learn.Arms))
	}
}

func (s *shuffled) Hold(page uint32) time.Duration {
	i, _ := slices.BinarySearch(learn.Arms[:], s.Model.Hold(page))
	return learn.Arms[s.perm[i]]
}

// The numbers of the window rule are those of the scavenger in package engine.
const (
	windowDefault = 2200 * time.Millisecond   // policy.DecayMs where nothing is set
	windowLeast   = windowDefault * 10 / 100  // minWindow
	windowMost    = windowDefault * 140 / 100 // maxWindow
	windowHorizon = 4 * windowDefault         // horizonWindows
	windowPace    = 55 * time.Millisecond     // minTick, the shortest time between ticks
	windowTicks   = 10                        // ticksPerWindow
	windowPeaks   = 2*windowTicks + 4         // peakBuckets
	windowJudged  = 256                       // minJudged, 16 MiB in pages of 64 KiB
)

// window is the rule of the scavenger: as many free pages are kept as would bring the pages in use to
// their peak within the window. Of the others those are returned of whose chunk no page was freed
// within the window, from the highest address down.
type window struct {
	length time.Duration
	use    int // pages in use
	most   int // the most of them since the last tick
	dirty  int // free pages that are kept
	peaks  [windowPeaks]peak
	next   int // peak to write

	again   int // pages that were taken within the horizon of their return, since the last tick
	purged  int // pages that were returned and are to be judged
	judging bool
	judgeAt time.Duration

	pages  []pageState
	chunks []chunkState
}

type peak struct {
	pages int
	at    time.Duration
}

type pageState struct {
	dirty  bool
	purged bool
}

type chunkState struct {
	dirty    int // pages
	freedAt  time.Duration
	purgedAt time.Duration
}

// Window returns the rule of the scavenger in package engine.
func Window(learn.Costs, uint64) Policy { return &window{length: windowDefault} }

func (w *window) grow(end uint32) {
	w.pages = grown(w.pages, end)
	w.chunks = grown(w.chunks, end/learn.ChunkPages+1)
}

func (w *window) Freed(page, n uint32, at time.Duration) {
	w.grow(page + n)
	w.use -= int(n)
	w.dirty += int(n)
	for i := page; i < page+n; i++ {
		w.pages[i].dirty = true
		c := &w.chunks[i/learn.ChunkPages]
		c.dirty++
		c.freedAt = at
	}
}

func (w *window) Taken(page, n uint32, now time.Duration) {
	w.grow(page + n)
	w.use += int(n)
	w.most = max(w.most, w.use)
	for i := page; i < page+n; i++ {
		p, c := &w.pages[i], &w.chunks[i/learn.ChunkPages]
		if p.dirty {
			w.dirty--
			c.dirty--
		}
		if p.purged && now-c.purgedAt <= windowHorizon {
			w.again++
		}
		*p = pageState{}
	}
}

func (w *window) Pace() time.Duration { return max(w.length/windowTicks, windowPace) }

func (w *window) Tick(now time.Duration) {
	w.peaks[w.next] = peak{w.most, now}
	w.next = (w.next + 1) % windowPeaks
	w.most = w.use
	if w.again >= max(windowJudged, w.purged)/16 {
		w.length = min(2*w.length, windowMost)
		w.judging, w.purged = false, 0
	} else if w.judging && now >= w.judgeAt {
		w.length = max(w.length/4, windowLeast)
		w.judging, w.purged = false, 0
	}
	w.again = 0
}

func (w *window) Hold(uint32) time.Duration { return w.length }

func (w *window) Choose(now time.Duration) (pages []uint32) {
	keep := 0
	for _, p := range w.peaks {
		if now-p.at <= w.length {
			keep = max(keep, p.pages-w.use)
		}
	}
	want := w.dirty - keep
	for i := len(w.chunks) - 1; i >= 0 && len(pages) < want; i-- {
		c := &w.chunks[i]
		if c.dirty == 0 || now-c.freedAt < w.length {
			continue
		}
		c.dirty = 0
		c.purgedAt = now
		first := i * learn.ChunkPages
		for j := first; j < min(first+learn.ChunkPages, len(w.pages)); j++ {
			if w.pages[j].dirty {
				w.pages[j] = pageState{purged: true}
				pages = append(pages, uint32(j))
			}
		}
	}
	w.dirty -= len(pages)
	if w.purged += len(pages); len(pages) > 0 && w.purged >= windowJudged && !w.judging {
		w.judging, w.judgeAt = true, now+windowHorizon
	}
	return pages
}
