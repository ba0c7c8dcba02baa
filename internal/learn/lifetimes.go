package learn

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// Lifetimes decides for which SITES blocks should lie apart from all others because they live for long. A
// site is a place in the program that allocates; here it is a number.
//
// It learns from samples: blocks of which the age is known, now and then while they live (Alive) and when
// they die (Died). Many samples are still alive when a decision is due, and those of a site whose blocks
// live for long are nearly all. So a site's mean lifetime is calculated from a life table: for each AGE
// the share of those that died at it among those that reached it (Kaplan, Meier, Nonparametric estimation
// from incomplete observations, 1958). A mean of the ages so far would depend on how often the site
// allocates.
//
// The mean, and not the median, is what counts: times the rate of allocations it is the memory that a site
// takes. A site of which one block in 20 lives for long, and very long, spoils the pages of blocks that
// live shortly as much as one of which all do.
//
// At each Decide the sites are divided into two groups by the logarithm of their means, where the groups
// differ most from each other and least within (Otsu, A threshold selection method from gray-level
// histograms, 1979).
//
// A Lifetimes has no clock and no lock; it is for one goroutine at a time. The zero value has seen nothing.
// It takes at most 256 KiB.
type Lifetimes struct {
	sites []lifetime     // at most MaxSites
	at    map[uint32]int // where in sites a site is
	notes uint64         // how many samples were noted, to tell which site was sampled last
	bound float64        // between the two groups: a logarithm of seconds
	split bool           // there were two groups at some Decide
	logs  []float64      // used by Decide
}

// Age is an age in steps: 0 up to a millisecond, k from 2^(k-1) ms to 2^k ms. It is the number of
// milliseconds in bits.
type Age uint8

// Old is the age from which on a block counts as living for ever: 65.5 s, about as long as the longest of
// the Arms. A sample of that age has shown all that it can.
const Old Age = 17

// lifetime is what is known of a site. Samples count less as others are born, so that counts are no
// integers.
type lifetime struct {
	reached, died [Old]float32 // blocks that passed an age or died at it, and that died at it
	last          uint64       // Lifetimes.notes when the site was sampled last
	site          uint32
	long          bool
}

const (
	// MaxSites is how many sites are known at a time. The one that was sampled least recently makes room
	// for another. They take 160 bytes each, and 40 in the map.
	MaxSites = 1024
	// leastSamples is how many samples of a site are needed for it to be judged. The mean of 16 lifetimes
	// from an exponential distribution is within a factor of 1.6 of the true one in 19 of 20 cases, much
	// less than leastRatio.
	leastSamples = 16
	// remembered is for how many later samples of its site one counts: the weight falls by e in that time.
	// With 64, a site of which one block in 20 lives for long changes its group 10 times as often; with 256
	// a change of the site's habit is noticed after twice as many samples (docs/ledger.md, "Which sites
	// live long").
	remembered = 128
	// leastReached is how many samples must have reached an age for anything to be said of it. What is
	// older counts as that age. With 4 a site of which one block in 20 lives for long is not found.
	leastReached = 1
	// leastRatio is by how much the groups must differ. Blocks that live for twice as long as others hold
	// few pages that these would have left. From 2 to 8 the decisions are the same, within a second.
	leastRatio = 4
	// leastLife is the least mean of the long group, in seconds: free pages are kept for as long in any
	// case. The bound between the groups is at least half of it. Without that, sites of 0.1 s are long
	// where others live for a millisecond, and the blocks wrongly placed are 1.5 times as many.
	leastLife = 1
	// stay is the factor by which a site must have passed the bound between the groups to change its
	// group. With 1 sites change 1.1 times as often; with 2 what changes is noticed 1.1 times as late.
	stay = 1.4
)

// ageOf returns a time as an age.
func ageOf(d time.Duration) Age {
	return min(Age(bits.Len64(uint64(max(d, 0)/ms))), Old)
}

// end returns the end of an age in seconds.
func (a Age) end() float64 { return (ms << a).Seconds() }

// Alive notes that a block of a site lives and is as old as age. seen is what the last call for this block
// returned, 0 at first.
func (l *Lifetimes) Alive(site uint32, seen Age, age time.Duration) Age {
	now := ageOf(age)
	l.note(site, seen, now)
	return now
}

// Died notes that a block of a site died at an age. seen is as for Alive. Blocks older than Old need not be
// noted.
func (l *Lifetimes) Died(site uint32, seen Age, age time.Duration) {
	now := ageOf(age)
	s := l.note(site, seen, now)
	if now == Old {
		return
	}
	if now == 0 {
		s.born()
	}
	s.reached[now]++
	s.died[now]++
}

// note notes that a block has grown from one age to another.
func (l *Lifetimes) note(site uint32, from, to Age) *lifetime {
	s := l.site(site)
	if from == 0 && to > 0 {
		s.born()
	}
	for ; from < to; from++ {
		s.reached[from]++
	}
	return s
}

// born lets the samples of a site count less, because there is another one.
func (s *lifetime) born() {
	const keep = 1 - 1.0/remembered
	for a := range s.reached {
		s.reached[a] *= keep
		s.died[a] *= keep
	}
}

// site returns what is known of a site of which there is a sample.
func (l *Lifetimes) site(site uint32) *lifetime {
	i, known := l.at[site]
	if !known {
		if l.at == nil {
			l.at = make(map[uint32]int, MaxSites)
		}
		if i = len(l.sites); i < MaxSites {
			l.sites = append(l.sites, lifetime{})
		} else {
			i = 0
			for j := range l.sites {
				if l.sites[j].last < l.sites[i].last {
					i = j
				}
			}
			delete(l.at, l.sites[i].site)
		}
		l.sites[i] = lifetime{site: site}
		l.at[site] = i
	}
	l.notes++
	l.sites[i].last = l.notes
	return &l.sites[i]
}

// judged reports whether enough is known of the site.
func (s *lifetime) judged() bool { return s.reached[0] >= leastSamples }

// mean returns the mean lifetime in seconds, as far as ages were reached.
func (s *lifetime) mean() (sum float64) {
	alive, begin := 1.0, 0.0 // the share of blocks that reach an age, and where it begins
	for a := Age(0); a < Old && s.reached[a] >= leastReached; a++ {
		left := alive * (1 - float64(s.died[a])/float64(s.reached[a]))
		sum += (a.end() - begin) * (alive + left) / 2
		alive, begin = left, a.end()
	}
	return sum
}

// Decide divides the sites into two groups by what was noted so far. It takes a quarter of a microsecond
// for each site.
func (l *Lifetimes) Decide() {
	l.logs = l.logs[:0]
	for i := range l.sites {
		if s := &l.sites[i]; s.judged() {
			l.logs = append(l.logs, math.Log(s.mean()))
		}
	}
	slices.Sort(l.logs)
	if bound, ok := otsu(l.logs); ok {
		l.bound, l.split = max(bound, math.Log(leastLife/2.0)), true
	}
	for i := range l.sites {
		switch s := &l.sites[i]; {
		case !l.split || !s.judged():
		case s.long:
			s.long = math.Log(s.mean()) > l.bound-math.Log(stay)
		default:
			s.long = math.Log(s.mean()) > l.bound+math.Log(stay)
		}
	}
}

// otsu returns the bound between two groups of ascending logarithms of lifetimes, in the middle between
// the means of the groups, or reports that there are no two groups that differ enough. Each site counts
// once: weighed by the bytes of its samples, sites are divided no better, and one with large blocks may
// draw the bound to itself.
func otsu(logs []float64) (bound float64, ok bool) {
	total := 0.0
	for _, x := range logs {
		total += x
	}
	low, best := 0.0, 0.0
	var lower, upper float64 // the means of the groups
	for i := range max(len(logs)-1, 0) {
		low += logs[i]
		n, rest := float64(i+1), float64(len(logs)-i-1)
		a, b := low/n, (total-low)/rest
		if between := n * rest * (b - a) * (b - a); between > best {
			best, lower, upper = between, a, b
		}
	}
	return (lower + upper) / 2, best > 0 && upper-lower >= math.Log(leastRatio) && upper >= math.Log(leastLife)
}

// Judged calls f for each site of which enough is known, with the number of its samples that count and
// whether its blocks live for long.
func (l *Lifetimes) Judged(f func(site uint32, samples float64, long bool)) {
	for i := range l.sites {
		if s := &l.sites[i]; s.judged() {
			f(s.site, float64(s.reached[0]), s.long)
		}
	}
}
