package governor

import (
	"fmt"
	"math"
	"testing"
)

// simulated is a process whose memory behaves as Go's and hakmem's do. Its program allocates in steps, of
// which there are some in each period.
type simulated struct {
	*fake
	heap   uint64 // objects, live and dead
	mapped uint64 // of the heap, with free parts that were not returned
	marked uint64 // alive after the last collection
	other  uint64
	// inUse is the off-heap memory in blocks, kept what is free and not returned.
	inUse, kept uint64
	limits      uint64 // the most that both limits were together since both were set
}

func (s *simulated) setLimit(bytes uint64) uint64 {
	defer s.sum()
	return s.fake.setLimit(bytes)
}

func (s *simulated) setHakmem(l limits) (limits, error) {
	defer s.sum()
	return s.fake.setHakmem(l)
}

func (s *simulated) sum() {
	if s.ofGo.limit != goFree && s.h.limits.soft != 0 {
		s.limits = max(s.limits, s.ofGo.limit+s.h.limits.soft)
	}
}

// goal returns the heap at which a collection begins: as in Go's runtime (mgcpacer.go) the lower one of the
// percent's and the limit's, of which 3 % or 1 MiB is kept back.
func (s *simulated) goal() uint64 {
	p := s.ofGo.percent
	byPercent := uint64(math.MaxUint64)
	if p >= 0 {
		byPercent = max(s.marked+s.marked/100*uint64(p), leastHeap/100*uint64(p))
	}
	byLimit := less(s.ofGo.limit, s.other)
	byLimit = less(byLimit, max(byLimit/100*3, mib))
	return max(min(byPercent, byLimit), s.marked)
}

// run is one step: live bytes are alive in Go's heap, garbage is allocated, inUse bytes are in blocks off
// the heap.
func (s *simulated) run(live, garbage, inUse uint64) {
	// hakmem keeps nothing near its soft limit: from 7/8 of it on.
	s.kept = less(s.inUse+s.kept, inUse)
	s.inUse = inUse
	if soft := s.h.limits.soft; soft != 0 {
		s.kept = min(s.kept, less(soft-soft/8, inUse))
	}
	s.kept -= s.kept / 64 // and gives back what is not used
	s.h.counted, s.h.least = s.inUse+s.kept, s.inUse

	// Of what is allocated the live heap's growth stays. Go spends at most half of its time on collections,
	// which is some five of a step's.
	s.heap += garbage + less(live, s.ofGo.live)
	s.ofGo.live = live
	for n := 0; s.heap > s.goal() && n < 5; n++ {
		over := less(s.heap, s.goal())
		s.heap = live + min(over, garbage/4) // what was allocated meanwhile
		s.marked = live
		s.ofGo.cycles++
	}
	// Free parts of the heap stay mapped, within the limit.
	s.mapped = max(s.heap, min(s.mapped, less(s.ofGo.limit, s.other)))
}

// read says what the last collection has found alive, as the runtime does.
func (s *simulated) read() (goMemory, offHeap) {
	g := s.ofGo
	g.live, g.other, g.used = s.marked, s.other, s.mapped+s.other
	return g, s.h
}

func newSimulated() *simulated {
	return &simulated{fake: &fake{ofGo: goMemory{limit: goFree, percent: 100}}, marked: 2 * mib, other: 8 * mib}
}

// TestSwings: Go's garbage and off-heap values that swing against each other stay below the total, use nine
// tenths of it when both ask for it, and cost at most one and a half times the collections of a process
// with endless memory.
func TestSwings(t *testing.T) {
	const (
		total   = 1000 * mib
		reserve = 50 * mib
		steps   = 4 // in a period
	)
	wave := func(i, period int) float64 { return 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(period*steps)) }
	for _, c := range []struct {
		name string
		// program returns what is alive in Go's heap, what garbage comes, and what is alive off the heap.
		program func(i int) (live, garbage, inUse uint64)
		used    bool // demand asks for all of the total
	}{
		{"against each other", func(i int) (uint64, uint64, uint64) {
			w := wave(i, 60)
			return 50*mib + uint64(w*300*mib), 40 * mib, 100*mib + uint64((1-w)*600*mib)
		}, true},
		{"against each other, faster", func(i int) (uint64, uint64, uint64) {
			w := wave(i, 24)
			return 50*mib + uint64(w*200*mib), 40 * mib, 100*mib + uint64((1-w)*500*mib)
		}, true},
		{"with each other", func(i int) (uint64, uint64, uint64) {
			w := wave(i, 60)
			return 20*mib + uint64(w*200*mib), 30 * mib, 50*mib + uint64(w*400*mib)
		}, true},
		{"a small heap beside much off the heap", func(i int) (uint64, uint64, uint64) {
			return 5 * mib, 20 * mib, 100*mib + uint64(wave(i, 100)*740*mib)
		}, true},
		{"all in Go's heap", func(i int) (uint64, uint64, uint64) {
			return 20*mib + uint64(wave(i, 200)*430*mib), 30 * mib, 2 * mib
		}, true},
		{"little of each", func(i int) (uint64, uint64, uint64) {
			return 10*mib + uint64(wave(i, 10)*10*mib), 5 * mib, 30*mib + uint64(wave(i, 13)*30*mib)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, free := newSimulated(), newSimulated()
			g, err := start(Options{Total: total, Reserve: reserve}, s)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			var most uint64
			for i := range 400 * steps {
				s.run(c.program(i))
				free.run(c.program(i))
				used := s.mapped + s.other + s.h.counted
				if most = max(most, used); used > total-reserve {
					t.Fatalf("step %d: %s", i, s)
				}
				if s.limits > total-reserve {
					t.Fatalf("step %d: the limits were %d MiB together: %s", i, s.limits/mib, s)
				}
				if i%steps == steps-1 {
					g.look()
					if s.ofGo.limit < (s.marked+s.other)/10*11 {
						t.Fatalf("step %d: Go's limit is below what is alive: %s", i, s)
					}
				}
			}
			t.Logf("%d MiB at most, %d collections, %d with endless memory; Go's limit moved %d times", most/mib, s.ofGo.cycles, free.ofGo.cycles, s.moved.limit)
			if c.used && most < (total-reserve)/10*9 {
				t.Errorf("only %d MiB were used at most", most/mib)
			}
			if s.ofGo.cycles > free.ofGo.cycles*3/2 {
				t.Errorf("%d collections, %d with endless memory", s.ofGo.cycles, free.ofGo.cycles)
			}
			if g.Err() != nil {
				t.Error(g.Err())
			}
		})
	}
}

func (s *simulated) String() string {
	return fmt.Sprintf("Go has %d MiB mapped, %d of heap, %d alive, limit %d, GOGC %d; hakmem %d, %d in use, limit %d", s.mapped/mib, s.heap/mib, s.marked/mib,
		s.ofGo.limit/mib, s.ofGo.percent, s.h.counted/mib, s.inUse/mib, s.h.limits.soft/mib)
}

// TestSmallSwings: a demand that swings by a 64th of the total moves no limit.
func TestSmallSwings(t *testing.T) {
	s := newSimulated()
	g, err := start(Options{Total: 1000 * mib}, s)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	live := uint64(100 * mib)
	moved := s.moved
	for i := range 300 {
		s.run(live+uint64(i%7)*mib/2, 10*mib, 300*mib+uint64(i%5)*2*mib)
		if i == 50 { // all has settled
			moved = s.moved
		}
		g.look()
	}
	if s.moved.limit != moved.limit || s.moved.hakmem != moved.hakmem {
		t.Errorf("moved %+v times, %+v in the beginning", s.moved, moved)
	}
}

// TestCacheThatShrinks: a cache that grows without end off the heap is kept within the budget by its
// callback, and is not asked for more than that.
func TestCacheThatShrinks(t *testing.T) {
	const total = 1000 * mib
	for name, grows := range map[string]uint64{"slowly": mib, "fast": 8 * mib} {
		t.Run(name, func(t *testing.T) {
			s := newSimulated()
			g, err := start(Options{Total: total}, s)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			wants := make(chan uint64, 1)
			defer OnPressure(func(want uint64) { wants <- want })()
			cache, least, asked := uint64(0), uint64(total), 0
			for i := range 2000 {
				cache += grows
				select {
				case want := <-wants:
					pressed.none()
					cache = less(cache, want)
					least = min(least, cache)
					asked++
				default:
				}
				s.run(50*mib, 10*mib, cache)
				if used := s.mapped + s.other + s.h.counted; used > total {
					t.Fatalf("step %d: %s", i, s)
				}
				g.look()
				pressed.mu.Lock()
				round := pressed.now != nil
				pressed.mu.Unlock()
				if round {
					wants <- <-wants // the callback has been called
				}
			}
			t.Logf("asked %d times; %d MiB in the cache in the end, %d after it first shrank", asked, cache/mib, least/mib)
			if asked == 0 || least < total/2 {
				t.Errorf("asked %d times; the cache had %d MiB", asked, least/mib)
			}
		})
	}
}
