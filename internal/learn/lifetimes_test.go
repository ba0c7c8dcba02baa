package learn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

func TestAgeOf(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration
		want Age
	}{{-ms, 0}, {0, 0}, {ms - 1, 0}, {ms, 1}, {2*ms - 1, 1}, {2 * ms, 2}, {1023 * ms, 10}, {1024 * ms, 11}, {65535 * ms, 16}, {65536 * ms, Old}, {math.MaxInt64, Old}} {
		if got := ageOf(c.age); got != c.want {
			t.Errorf("%v is age %d, want %d", c.age, got, c.want)
		}
	}
	for a := range Old - 1 {
		if end := time.Duration(a.end() * float64(time.Second)); ageOf(end-ms/2) != a || ageOf(end+ms/2) != a+1 {
			t.Errorf("age %d ends at %v", a, end)
		}
	}
}

// TestMeanOfLifetimes: the mean is that of the lifetimes, within the steps of ages, and blocks that still
// live bend it only where nothing is known of older ones.
func TestMeanOfLifetimes(t *testing.T) {
	for _, c := range []struct {
		what      string
		do        func(l *Lifetimes, i int)
		low, high float64
	}{
		{"all die at 3 s", func(l *Lifetimes, _ int) { l.Died(7, 0, 3*time.Second) }, 2, 4.1},
		{"all die at once", func(l *Lifetimes, _ int) { l.Died(7, 0, 0) }, 0, 0.001},
		{"all grow old", func(l *Lifetimes, _ int) { l.Alive(7, 0, time.Hour) }, 65, 66},
		{"all are 1.5 s old", func(l *Lifetimes, _ int) { l.Alive(7, 0, 1500*ms) }, 1, 1.5},
		{"half die at once, half grow old", func(l *Lifetimes, i int) {
			if i%2 == 0 {
				l.Died(7, 0, 0)
			} else {
				l.Alive(7, 0, time.Hour)
			}
		}, 30, 36},
		{"in steps", func(l *Lifetimes, _ int) {
			seen := l.Alive(7, 0, 10*ms)
			seen = l.Alive(7, seen, 10*ms)
			seen = l.Alive(7, seen, time.Second)
			l.Died(7, seen, 3*time.Second)
		}, 2, 4.1},
		// A quarter died at 20 ms; of those that are 1 s old nobody knows how old they will get, and
		// 2 s say nothing of the first 20 ms.
		{"some alive", func(l *Lifetimes, i int) {
			if i%4 == 0 {
				l.Died(7, 0, 20*ms)
			} else {
				l.Alive(7, 0, 1100*ms)
			}
		}, 0.65, 0.85},
	} {
		l := &Lifetimes{}
		for i := range 1000 {
			c.do(l, i)
		}
		if got := l.sites[0].mean(); got < c.low || got > c.high {
			t.Errorf("%s: the mean is %g s, want %g to %g", c.what, got, c.low, c.high)
		}
	}
}

func TestOtsu(t *testing.T) {
	for _, c := range []struct {
		seconds []float64
		want    float64 // the bound in seconds, 0 if there is none
	}{
		{nil, 0},
		{[]float64{60}, 0},
		{[]float64{2, 2, 2}, 0},
		{[]float64{0.01, 0.04}, 0}, // none is long
		{[]float64{20, 60}, 0},     // not different enough
		{[]float64{20, 81}, math.Sqrt(20 * 81)},
		{[]float64{0.01, 0.01, 0.01, 100}, 1},
		{[]float64{0.01, 100, 100, 100}, 1},
		{[]float64{0.01, 0.02, 0.02, 0.04, 64}, math.Sqrt(0.02 * 64)},
		{[]float64{0.2, 1.01}, math.Sqrt(0.2 * 1.01)},
		{[]float64{0.2, 0.99}, 0},
	} {
		var logs []float64
		for _, x := range c.seconds {
			logs = append(logs, math.Log(x))
		}
		bound, ok := otsu(logs)
		if ok != (c.want != 0) || ok && math.Abs(bound-math.Log(c.want)) > 1e-9 {
			t.Errorf("%v: the bound is %g s, %t; want %g", c.seconds, math.Exp(bound), ok, c.want)
		}
	}
}

// verdicts returns what l has decided, by site.
func verdicts(l *Lifetimes) map[uint32]bool {
	m := map[uint32]bool{}
	l.Judged(func(s uint32, _ float64, long bool) { m[s] = long })
	return m
}

// TestFewSamples: a site is judged from 16 samples on.
func TestFewSamples(t *testing.T) {
	l := &Lifetimes{}
	for i := range 20 {
		l.Died(1, 0, ms)
		if i < 16 { // each lets those before it count a little less
			l.Alive(2, 0, time.Minute)
		}
	}
	l.Decide()
	if got := verdicts(l); len(got) != 1 {
		t.Errorf("after 20 and 16 samples, of which the first count less, sites %v are judged; want site 1", got)
	}
	for range 4 {
		l.Alive(2, 0, time.Minute)
	}
	l.Decide()
	if got := verdicts(l); len(got) != 2 || got[1] || !got[2] {
		t.Errorf("after 20 samples each: %v; want site 2 long", got)
	}
}

// TestStays: a site near the bound does not change its group until it has passed the bound by a factor.
func TestStays(t *testing.T) {
	l := &Lifetimes{}
	for range 100 {
		l.Died(1, 0, 0)
		l.Alive(2, 0, time.Hour)
		l.Died(3, 0, 20*time.Second)
	}
	l.Decide()
	if got := verdicts(l); got[1] || !got[2] || !got[3] {
		t.Fatalf("%v", got)
	}
	mean := math.Log(l.sites[2].mean())
	for _, c := range []struct {
		over float64 // the site's mean over the bound
		want bool
	}{{1 / 1.3, true}, {1 / 1.5, false}, {1.3, false}, {1.5, true}, {1 / 1.3, true}} {
		l.sites = l.sites[2:3:3] // no groups: the bound stays
		l.bound = mean - math.Log(c.over)
		l.Decide()
		if l.sites[0].long != c.want {
			t.Errorf("%g times the bound: long %t", c.over, !c.want)
		}
		l.sites = append([]lifetime{{}, {}}, l.sites...)
	}
}

// TestMostSites: the site that was sampled least recently makes room.
func TestMostSites(t *testing.T) {
	l := &Lifetimes{}
	for range 20 {
		for s := range uint32(MaxSites) {
			l.Died(s, 0, ms)
		}
	}
	l.Died(0, 0, ms)
	l.Died(MaxSites, 0, ms) // in place of site 1
	got := verdicts(l)
	_, zero := got[0]
	_, one := got[1]
	if len(got) != MaxSites-1 || !zero || one || len(l.at) != MaxSites || len(l.sites) != MaxSites {
		t.Errorf("%d sites are judged of %d; site 0 %t, site 1 %t", len(got), len(l.sites), zero, one)
	}
	l.Decide()
	if n := testing.AllocsPerRun(10, func() {
		l.Died(5, 0, ms)
		l.Alive(6, 0, time.Second)
		l.Decide()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	// A Go map takes up to 38 bytes for an entry of 16 at the least favourable load.
	if n := MaxSites * (unsafe.Sizeof(lifetime{}) + 8 + 38); n > 256<<10 {
		t.Errorf("%d sites take %d bytes", MaxSites, n)
	}
}

// sitedProgram is a program of some sites, simulated.
type sitedProgram struct {
	name  string
	rates []float64 // allocations a second, by site
	// life returns a lifetime in seconds for a block of a site that is allocated at a time.
	life func(r *rand.Rand, site int, at float64) float64
	// right says where blocks of a site belong at a time: 1 long, 0 short, -1 either.
	right func(site int, at float64) int
	bar   float64 // the share of blocks that may be placed wrongly, of those that belong anywhere
}

func exponential(r *rand.Rand, mean float64) float64 { return r.ExpFloat64() * mean }

// programs are what the constants were chosen with. forEver stands for blocks that live to the end.
func programs() []sitedProgram {
	const forEver = 3600
	rates := func(n int, x float64) (list []float64) {
		for range n {
			list = append(list, x)
		}
		return list
	}
	second := func(s int, _ float64) int { return s }
	misjudged := func(part float64) func(*rand.Rand, int, float64) float64 {
		return func(r *rand.Rand, s int, _ float64) float64 {
			if (s == 1) != (r.Float64() < part) {
				return forEver
			}
			return exponential(r, 0.01)
		}
	}
	return []sitedProgram{
		{"two sites", []float64{950, 50}, misjudged(0), second, 0.001},
		{"2 % of each site as in the other one", []float64{950, 50}, misjudged(0.02), second, 0.001},
		{"10 % of each site as in the other one", []float64{950, 50}, misjudged(0.1), second, 0.001},
		{"fast", []float64{16000, 1600}, func(r *rand.Rand, s int, _ float64) float64 {
			if s == 1 {
				return 30
			}
			return exponential(r, 0.01)
		}, second, 0.002},
		{"slow", []float64{2, 0.5}, func(r *rand.Rand, s int, _ float64) float64 { return exponential(r, []float64{0.1, 300}[s]) }, second, 0.1},
		{"long becomes short", []float64{950, 500}, func(r *rand.Rand, s int, at float64) float64 {
			if s == 1 && at < 60 {
				return forEver
			}
			return exponential(r, 0.01)
		}, func(s int, at float64) int {
			if s == 1 && at < 60 {
				return 1
			}
			return 0
		}, 0.15},
		{"one block in 20 of a site lives", []float64{950, 500, 50}, func(r *rand.Rand, s int, _ float64) float64 {
			if s == 2 || s == 1 && r.Float64() < 0.05 {
				return forEver
			}
			return exponential(r, 0.01)
		}, func(s int, _ float64) int { return min(s, 1) }, 0.08},
		{"three groups", append(append([]float64{900}, rates(5, 200)...), 50), func(r *rand.Rand, s int, _ float64) float64 {
			switch s {
			case 0:
				return exponential(r, 0.001)
			case 6:
				return forEver
			}
			return exponential(r, 0.2)
		}, func(s int, _ float64) int { return s / 6 }, 0.02},
		{"many", append(rates(20, 100), rates(5, 10)...), func(r *rand.Rand, s int, _ float64) float64 {
			if s < 20 {
				return exponential(r, 0.001*math.Pow(1.35, float64(s)))
			}
			return exponential(r, 5*math.Pow(5, float64(s-20)))
		}, func(s int, _ float64) int { return s / 20 }, 0.005},
		{"all alike", rates(10, 50), func(r *rand.Rand, _ int, _ float64) float64 { return exponential(r, 20) },
			func(int, float64) int { return 0 }, 0.01},
		{"heavy tails", []float64{900, 100}, func(r *rand.Rand, s int, _ float64) float64 { // Pareto's distribution
			return min(0.005*math.Pow(1-r.Float64(), -1/[]float64{1.3, 0.4}[s]), forEver)
		}, second, 0.05},
	}
}

// run simulates p for four minutes in steps of 0.1 s, and returns the share of the blocks that were placed
// wrongly and how often sites changed their group. One block in 64 is a sample, besides the first 64 of a
// site. No more than so many samples live at a time.
func (p *sitedProgram) run(seed uint64, most int) (wrong float64, changes int) {
	type sample struct {
		site      uint32
		born, die float64
		seen      Age
	}
	const step = 0.1
	r := rand.New(rand.NewPCG(seed, 1979))
	l, owed, made := &Lifetimes{}, make([]float64, len(p.rates)), make([]int, len(p.rates))
	var samples []sample
	var placed, misplaced float64
	var long map[uint32]bool
	for i := range 2400 {
		now := float64(i) * step
		for s, rate := range p.rates {
			owed[s] += rate * step
			for ; owed[s] >= 1; owed[s]-- {
				if made[s]++; (made[s] <= 64 || r.IntN(64) == 0) && len(samples) < most {
					samples = append(samples, sample{uint32(s), now, now + p.life(r, s, now), 0})
				}
				if at := p.right(s, now); at >= 0 {
					placed++
					if long[uint32(s)] != (at == 1) {
						misplaced++
					}
				}
			}
		}
		kept := samples[:0]
		for _, s := range samples {
			age := func(at float64) time.Duration { return time.Duration((at - s.born) * float64(time.Second)) }
			if s.die <= now {
				l.Died(s.site, s.seen, age(s.die))
				continue
			}
			if i%10 == 9 {
				s.seen = l.Alive(s.site, s.seen, age(now))
			}
			// Where there is no room for others, those of 4 s give way.
			if s.seen < Old && (len(samples) < most || now-s.born < 4) {
				kept = append(kept, s)
			}
		}
		samples = kept
		if i%10 == 9 {
			l.Decide()
			was := long
			long = verdicts(l)
			for s, x := range long {
				if x != was[s] {
					changes++
				}
			}
		}
	}
	return misplaced / max(placed, 1), changes
}

// TestPrograms: few blocks are placed wrongly in simulated programs, and sites keep their groups. -v
// prints how many.
func TestPrograms(t *testing.T) {
	for _, p := range programs() {
		worst, changed := 0.0, 0
		for seed := range uint64(2) {
			wrong, changes := p.run(seed+1, 4096)
			worst, changed = max(worst, wrong), max(changed, changes)
		}
		t.Logf("%-40s %.2f %% wrong, %d changes", p.name, 100*worst, changed)
		if most := 5 * len(p.rates); worst > p.bar || changed > most {
			t.Errorf("%s: %.2f %% of the blocks are placed wrongly, want %.2f %% at most; sites change their group %d times, want %d at most", p.name, 100*worst, 100*p.bar, changed, most)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []uint32{2, MaxSites} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := &Lifetimes{}
			for i := range uint32(20) {
				for s := range n {
					l.Died(s, 0, time.Duration(s*i)*ms)
				}
			}
			for range b.N {
				l.Decide()
			}
		})
	}
}
