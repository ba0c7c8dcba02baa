// Command maps is the comparison "map": 10^7 entries of uint64 in Go's map, in cockroachdb/swiss with Go's memory and
// with hakmem's, and in offheap.Map. The command compare starts it.
package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
	"github.com/hakmem/hakmem/governor"
)

func main() { measure.Main(measure.Program{Start: begin}) }

const (
	fullEntries = 10_000_000
	// collections is odd: their median is one of them.
	collections = 5
	// governed is the total of the variant with the governor: some four times what the map takes.
	governed = 4 << 30
)

func begin(s measure.Setting) (measure.Job, error) {
	var fresh func() table
	var g *governor.Governor
	switch s.Variant {
	case "Go's map":
		fresh = func() table { return &goTable{} }
	case "cockroachdb/swiss":
		fresh = func() table { return &swissTable{} }
	case "cockroachdb/swiss, adapters/swiss":
		fresh = func() table { return &swissTable{outside: true} }
	case "offheap.Map":
		fresh = func() table { return &hakmemTable{} }
	case "offheap.Map, governor":
		fresh = func() table { return &hakmemTable{} }
		var err error
		if g, err = governor.Start(governor.Options{Total: governed}); err != nil {
			return measure.Job{}, err
		}
	default:
		return measure.Job{}, measure.UnknownVariant(s)
	}
	n, t := s.Of(fullEntries), fresh()
	return measure.Job{
		Work:  func(m *measure.Meter) error { return work(m, t, n) },
		Close: func(*measure.Meter) error { t.close(); return nil },
		After: func(m *measure.Meter) error { // by another map, because garbage leaves memory behind, too
			t := fresh()
			t.insert(0, n)
			if err := nextTo(m, s); err != nil {
				return err
			}
			t.close()
			if g != nil {
				g.Close()
				return g.Err()
			}
			return nil
		},
	}, nil
}

// scatter spreads numbers over all of uint64, each to another one. The factor is 2^64 over the golden ratio.
func scatter(i int) uint64 { return uint64(i) * 0x9E3779B97F4A7C15 }

// elsewhere is another order of the numbers below n, so that entries are not looked up in the order in which they came.
func elsewhere(i, n int) int {
	const step = 7919 // a prime number that does not divide a size
	return int(uint64(i) * step % uint64(n))
}

// work inserts n entries, looks each up twice, and takes each of them out while another comes in.
func work(m *measure.Meter, t table, n int) error {
	for _, p := range []struct {
		name string
		from func(first, last int) (sum uint64)
		ops  int // for each number
	}{
		{"insert", t.insert, 1},
		{"look up", func(first, last int) uint64 { return t.lookup(first, last, n) }, 1},
		{"look up again", func(first, last int) uint64 { return t.lookup(first, last, n) }, 1},
		{"delete and insert", func(first, last int) uint64 { return t.replace(first, last, n) }, 2},
	} {
		var h measure.Histogram
		began := time.Now()
		for i := 0; i < n; i += measure.SampleEvery {
			b := time.Now()
			sum := p.from(i, i+1)
			h.Record(time.Since(b))
			sum += p.from(i+1, min(i+measure.SampleEvery, n))
			m.AddSum(sum)
		}
		m.Figure(p.name, "ns", float64(time.Since(began).Nanoseconds())/float64(n*p.ops))
		m.AddLatency(&h)
	}
	if t.len() != n {
		return fmt.Errorf("the map has %d entries, want %d", t.len(), n)
	}
	m.Resident("resident")
	return nil
}

// nextTo looks at what a living map does to Go's collector, and that to a program next to it.
func nextTo(m *measure.Meter, s measure.Setting) error {
	var took []float64
	for range collections {
		began := time.Now()
		runtime.GC()
		took = append(took, time.Since(began).Seconds()*1e3)
	}
	slices.Sort(took)
	m.Figure("full collection", "ms", took[len(took)/2])
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := m.Phase("garbage next to it", func() error { return garbage(s) })
	runtime.ReadMemStats(&after)
	m.Figure("collections next to it", "", float64(after.NumGC-before.NumGC))
	return err
}

// node is garbage with pointers, as usual programs make it.
type node struct {
	next *node
	text [64]byte
}

// garbage is a program that allocates all the time and keeps little: 2^17 lists, one of which each allocation makes
// longer; one in eight allocations begins its list anew. So some 80 MB live, and 3 GB are allocated.
func garbage(s measure.Setting) error {
	const fullObjects, kept = 40_000_000, 1 << 17
	ring := make([]*node, min(kept, s.Of(kept)))
	for i := range s.Of(fullObjects) {
		at := &ring[scatter(i)>>32%uint64(len(ring))] // the lower bits of two numbers are alike when those of i are
		if i%8 == 0 {
			*at = nil
		}
		*at = &node{next: *at}
		if (*at).text[0] != 0 {
			return fmt.Errorf("object %d is not zero", i)
		}
	}
	return nil
}
