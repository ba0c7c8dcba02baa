package learn

import (
	"math"
	"slices"
	"time"
)

// Lifetimes decides for which SITES blocks should lie apart from all others because they live for long. A
// site is a place in the program that allocates; here it is a number.
//
// It is told of samples: for how long a block of a site lived (Died), or has lived so far (Alive). At
// each Decide the sites are divided into two groups by the logarithm of their mean lifetimes, where the
// groups differ most from each other and least within (Otsu, A threshold selection method from gray-level
// histograms, 1979). The mean, and not the median, is what counts: it is the memory that the blocks of a
// site take, divided by how fast the site allocates. So a site of which few blocks live for long, but
// very long, belongs to the long ones.
//
// A Lifetimes has no clock and no lock; it is for one goroutine at a time. It takes at most 128 KiB. The
// zero value is one that has seen nothing.
type Lifetimes struct {
	sites []lifetime     // at most MaxSites
	at    map[uint32]int // where in sites a site is
	calls uint64         // of Died and Alive, to tell which site was sampled last
	bound float64        // between the two groups: a logarithm of seconds
	split bool           // there were two groups at some Decide
}

// lifetime is what is known of a site. Older samples count less, so that sums are no integers.
type lifetime struct {
	site  uint32
	long  bool
	last  uint64  // Lifetimes.calls at the last sample
	ended sums    // of blocks that died
	alive sums    // of blocks that live, until the next Decide
	n     float64 // how many samples counted at the last Decide
}

// sums are sums over samples, weighted.
type sums struct{ n, seconds float64 }

const (
	// MaxSites is how many sites are known at a time. The one that was sampled least recently makes room
	// for another. With 100 bytes each, and the map, they take 128 KiB.
	MaxSites = 1024
	// leastSamples is how many samples of a site are needed for it to be judged. With 16 lifetimes from an
	// exponential distribution the mean is within a factor of 1.6 of the true one in 19 of 20 cases, much
	// less than leastRatio.
	leastSamples = 16
	// remembered is how many samples of a site count: each new one lets all before it count less by that
	// part. A site that turns from a minute to a millisecond is found out after some 600 samples. With 32
	// a site of which one block in 20 lives for long changes its group again and again; with 256 the turn
	// takes four times as long (docs/ledger.md, "Which sites live long").
	remembered = 64
	// leastRatio is by how much the groups must differ. Blocks that live for twice as long as others hold
	// few pages that these would have left.
	leastRatio = 4
	// leastLife is the least mean lifetime of the long group, in seconds. Free pages are kept for that
	// long in any case.
	leastLife = 1
	// stay is the factor by which a site must have passed the bound between the groups to change its
	// group. With 1 a site at the bound changes it at every third decision, with 1.4 at every fortieth.
	stay = 1.4
	// shortest stands for lifetimes below a millisecond, in seconds: the logarithm of 0 is none.
	shortest = 0.5e-3
)

// Died notes that a block of the site lived for the given time, or that it still lives and is not to be
// watched any more.
func (l *Lifetimes) Died(site uint32, age time.Duration) {
	s := l.sampled(site)
	const keep = 1 - 1.0/remembered
	s.ended.n = s.ended.n*keep + 1
	s.ended.seconds = s.ended.seconds*keep + age.Seconds()
}

// Alive notes for the next Decide alone that a block of the site has lived for the given time and still
// lives. Its age so far counts as its lifetime.
func (l *Lifetimes) Alive(site uint32, age time.Duration) {
	s := l.sampled(site)
	s.alive.n++
	s.alive.seconds += age.Seconds()
}

// sampled returns what is known of a site of which there is a sample.
func (l *Lifetimes) sampled(site uint32) *lifetime {
	i, known := l.at[site]
	if !known {
		if l.at == nil {
			l.at = map[uint32]int{}
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
	l.calls++
	l.sites[i].last = l.calls
	return &l.sites[i]
}

// mean returns the logarithm of the mean lifetime in seconds, and the number of samples.
func (s *lifetime) mean() (log, n float64) {
	n = s.ended.n + s.alive.n
	return math.Log(max((s.ended.seconds+s.alive.seconds)/max(n, 1), shortest)), n
}

// Decide divides the sites into two groups by what was seen so far.
func (l *Lifetimes) Decide() {
	var logs []float64
	for i := range l.sites {
		if log, n := l.sites[i].mean(); n >= leastSamples {
			logs = append(logs, log)
		}
	}
	slices.Sort(logs)
	if bound, ok := otsu(logs); ok {
		l.bound, l.split = bound, true
	}
	for i := range l.sites {
		s := &l.sites[i]
		log, n := s.mean()
		s.alive, s.n = sums{}, n
		if !l.split || n < leastSamples {
			continue
		}
		if s.long {
			s.long = log > l.bound-math.Log(stay)
		} else {
			s.long = log > l.bound+math.Log(stay)
		}
	}
}

// otsu returns the bound between two groups of ascending logarithms of lifetimes, in the middle between
// the means of the groups, or reports that there are no two groups that differ enough.
func otsu(logs []float64) (bound float64, ok bool) {
	total, low, best := 0.0, 0.0, 0.0
	for _, x := range logs {
		total += x
	}
	var lower, upper float64 // the means of the groups
	for i, x := range logs[:max(len(logs)-1, 0)] {
		low += x
		n, rest := float64(i+1), float64(len(logs)-i-1)
		a, b := low/n, (total-low)/rest
		if between := n * rest * (b - a) * (b - a); between > best {
			best, lower, upper = between, a, b
		}
	}
	if upper-lower < math.Log(leastRatio) || upper < math.Log(leastLife) {
		return 0, false
	}
	return (lower + upper) / 2, true
}

// Long reports whether the blocks of a site live for long, as far as it is known.
func (l *Lifetimes) Long(site uint32) bool {
	i, known := l.at[site]
	return known && l.sites[i].long
}

// Judged calls f for each site of which enough is known, with the number of samples that count and
// whether its blocks live for long.
func (l *Lifetimes) Judged(f func(site uint32, samples float64, long bool)) {
	for i := range l.sites {
		if s := &l.sites[i]; s.n >= leastSamples {
			f(s.site, s.n, s.long)
		}
	}
}
