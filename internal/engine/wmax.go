package engine

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file lets a cached large block serve a request for a smaller class, if its size is at most W_MAX
// times the request (HAKMEM_W_MAX). The block stays one of its own class: Size says so, and its free puts it
// where it came from. With HAKMEM_W_MAX=auto learn.WMax chooses the factor; what it wants to know is counted
// here, once in missSample misses, by whoever allocates.

// wider is what is counted. All of it is atomic; the scavenger's window reads and empties it.
var wider struct {
	// served is how many allocations a block of a larger class served, and beyond how many bytes more than
	// the requests these blocks had.
	served, beyond atomic.Uint64
	// factor has the bits of the factor in force with auto; 0: none is yet, which is 1.
	factor atomic.Uint64

	// The rest is counted with auto only, since the last window. misses is how many large allocations found
	// their magazine empty.
	misses atomic.Int64
	// looks counts what may be sampled. nanos is what sampled misses took, fresh the OS pages of 4 KiB that
	// the program will have to fault in after them, and moved the work of caches with large blocks, as
	// movedNanos, since the start.
	looks               atomic.Uint64
	nanos, fresh, moved atomic.Int64
	// lives has samples of blocks that served smaller requests.
	lives [wideLives]atomic.Uint64
}

const (
	// missSample is one in how many misses is timed: a look at the clock takes some 50 ns, a miss 200 ns to
	// some µs, so that it costs below 4 % of them.
	missSample = 16
	// wideLives is how many lives of blocks are followed at a time: each tick looks at all of them, in 1 µs.
	// From 64 of them a mean is known within an eighth.
	wideLives = 64
	// lifeStays is for how many milliseconds a sample keeps its place in any case, as lifetimes' samples do.
	lifeStays = 4000
)

// takeWider returns a cached large block for size bytes, whose class c has none, of a larger class, and
// that class; or 0. It looks into the magazines of the front and the shared slots, the nearest class first.
// Not entered.
func takeWider(own Front, c sizeclass.ID, size mem.Bytes, s site.ID) (Block, sizeclass.ID) {
	check.MustNotBeEntered("takeWider")
	most, last := mem.Bytes(widest(s)*float64(size)), c
	for last < sizeclass.NumAll && sizeclass.LargeBytes(last+1) <= most {
		last++
	}
	if last == c {
		return 0, c
	}
	p, d := Block(0), c
	f, tok := enter(own)
	for d < last && p == 0 {
		d++
		p = f.pop(d)
	}
	leave(tok)
	if p == 0 {
		for d = c; d < last && p == 0; {
			d++
			p = shared[d-sizeclass.Num-1].take()
		}
	}
	if p == 0 {
		return 0, c
	}
	wider.served.Add(1)
	wider.beyond.Add(uint64(sizeclass.LargeBytes(d) - size))
	if learnsWMax() {
		followLife(p, d)
	}
	return p, d
}

// widest returns the factor for a request of site s (0: none).
func widest(s site.ID) float64 {
	if s != 0 {
		if f, set := wmaxRule(s); set {
			return f
		}
	}
	f, fixed := policy.Now().WMax.Factor()
	switch {
	case fixed:
		return f
	case learnsWMax():
		return max(math.Float64frombits(wider.factor.Load()), 1)
	}
	return 1
}

// learnsWMax reports whether the factor is learnt. Any goroutine, also entered.
func learnsWMax() bool { return policy.Now().WMax == policy.WMaxAuto && learns() }

// noteMiss notes that an allocation of a large class found its magazine empty.
func noteMiss() {
	if learnsWMax() {
		wider.misses.Add(1)
	}
}

// missBegins returns the time if what begins now is to be timed, else 0. missEnds counts what it took.
func missBegins() (began time.Duration) {
	if !learnsWMax() || wider.looks.Add(1)%missSample != 0 {
		return 0
	}
	return startTime()
}

func missEnds(began time.Duration) {
	if began != 0 {
		wider.nanos.Add(int64(elapsed() - began))
	}
}

// freshEnds is missEnds for a large block that was made of free pages. clean says that they have no memory,
// so that the program is going to fault them in.
func freshEnds(began time.Duration, n mem.Bytes, clean bool) {
	if missEnds(began); began != 0 && clean {
		wider.fresh.Add(int64(n / 4096))
	}
}

// A life is the moment in ms, page and class of a block: stamp<<33 | page<<8 | class. The stamp loses its
// highest bit, so it begins anew after 25 days.
const lifePage, lifeStamp = 8, 33

// followLife makes the block at p, of class c, a sample if there is a place for it.
func followLife(p Block, c sizeclass.ID) {
	place := &wider.lives[wider.served.Load()%wideLives]
	now := milliseconds()
	if was := place.Load(); was == 0 || (uint32(now)-uint32(was>>lifeStamp))&(1<<31-1) >= lifeStays {
		place.CompareAndSwap(was, uint64(now)<<lifeStamp|uint64(p.page())<<lifePage|uint64(c))
	}
}

// wmax is what is known of W_MAX. Owned by scavenger.mu.
var wmax struct {
	*learn.WMax
	// moved and beyond are what wider's were when the last window ended.
	moved  int64
	beyond uint64
	looked stamp // when followLives last looked
	// skip says that the window that goes on began without counts.
	skip bool
}

// wmaxLearnt returns what is known of W_MAX, or nil if no window was played. Under scavenger.mu.
func wmaxLearnt() *learn.WMaxSnapshot {
	if wmax.WMax == nil {
		return nil
	}
	s := wmax.Snapshot()
	if s.Plays() == 0 {
		return nil
	}
	return &s
}

// restoreWMax replaces what is known of W_MAX, unless s is nil. The factor that s has adopted is in force at
// once, and the window that goes on does not count. Under scavenger.mu.
func restoreWMax(s *learn.WMaxSnapshot) error {
	if s == nil {
		return nil
	}
	w := &wmax
	if w.WMax == nil {
		w.WMax = learn.NewWMax()
	}
	err := w.Restore(*s)
	w.skip = true
	wider.factor.Store(math.Float64bits(w.Factor(false)))
	return err
}

// followLives notes for how long samples lived since the last tick. A sample that has died
// since then counts with half of that. A block that was freed and is in use again counts as alive: so the
// mean is too long rather than too short, and W_MAX too small. Under scavenger.mu.
func followLives(now stamp) {
	since := now.since(wmax.looked)
	wmax.looked = now
	if !checkLive || !learnsWMax() || wmax.WMax == nil {
		return
	}
	if since > decay() { // there were no ticks, and nobody knows when samples died
		for i := range wider.lives {
			wider.lives[i].Store(0)
		}
		return
	}
	seconds, died := 0.0, 0
	for i := range wider.lives {
		place := &wider.lives[i]
		v := place.Load()
		if v == 0 {
			continue
		}
		seconds += float64(since) / 1000
		if !livesAt(pageNo(v>>lifePage&(1<<25-1)), sizeclass.ID(v)) && place.CompareAndSwap(v, 0) {
			seconds -= float64(since) / 2000
			died++
		}
	}
	wmax.Lived(seconds, died)
}

// livesAt reports whether a live large block of class c begins at the page. It is a glance: the block may
// be freed meanwhile.
//
//go:norace
func livesAt(page pageNo, c sizeclass.ID) bool {
	m := meta(page)
	return m.kind == kindLarge && m.class == c && m.live != 0
}

// wmaxWindow ends a window of W_MAX, which took since, and begins the next one. costs are those of a page;
// frozen says that nothing is learnt from it, and what is adopted is in force in the next one. It returns the
// decision if another factor was adopted. Under scavenger.mu.
func wmaxWindow(since millis, costs learn.Costs, frozen bool) (d learn.Decision, adopted bool) {
	w := &wmax
	if !learnsWMax() {
		w.skip = true
		return d, false
	}
	if w.WMax == nil {
		w.WMax, w.skip = learn.NewWMax(), true
	}
	moved, beyond := wider.moved.Load(), wider.beyond.Load()
	x := learn.WMaxWindow{
		Seconds: float64(since) / 1000,
		Misses:  float64(wider.misses.Swap(0)),
		CPU:     float64(missSample*wider.nanos.Swap(0)+moved-w.moved)/1e9 + float64(missSample*wider.fresh.Swap(0))*costs.Fault/(pageSize/4096),
		Beyond:  float64(beyond-w.beyond) / (1 << 30),
		Price:   costs.Hold * (1 << 30 / pageSize),
	}
	w.moved, w.beyond = moved, beyond
	if !w.skip && !frozen {
		d, adopted = w.Window(x)
	}
	w.skip = false
	wider.factor.Store(math.Float64bits(w.Factor(!frozen)))
	return d, adopted
}
