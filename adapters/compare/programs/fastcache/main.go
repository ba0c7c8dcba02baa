// Command fastcache is the comparison "fastcache": the cache of VictoriaMetrics and the one of adapters/fastcache
// are filled, read, reset, dropped and closed. The command compare starts it.
package main

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	victoria "github.com/VictoriaMetrics/fastcache"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
	ours "github.com/hakmem/hakmem/adapters/fastcache"
)

func main() { measure.Main(measure.Program{Start: begin}) }

const (
	fullBytes   = 512 << 20
	leastBytes  = 32 << 20 // that of the smallest cache
	fullEntries = 6_000_000
	valueBytes  = 100
)

// cacher is what both have.
type cacher interface {
	Set(k, v []byte)
	HasGet(dst, k []byte) ([]byte, bool)
	Reset()
}

func begin(s measure.Setting) (measure.Job, error) {
	var fresh func(bytes int) cacher
	switch s.Variant {
	case "fastcache":
		fresh = func(bytes int) cacher { return victoria.New(bytes) }
	case "adapters/fastcache":
		fresh = func(bytes int) cacher { return ours.New(bytes) }
	default:
		return measure.Job{}, measure.UnknownVariant(s)
	}
	l := &load{fresh: fresh, bytes: max(s.Of(fullBytes), leastBytes), entries: s.Of(fullEntries), goroutines: s.Goroutines}
	l.c = fresh(l.bytes)
	return measure.Job{Work: l.work, NextTo: l.reset, Close: l.close, After: l.drop}, nil
}

type load struct {
	fresh               func(bytes int) cacher
	bytes               int
	entries, goroutines int
	c                   cacher
}

// counter is one goroutine's: it has a cache line for itself.
type counter struct {
	n int
	_ [56]byte
}

// work sets all entries, of which the newest stay, and gets them twice, the newest first.
func (l *load) work(m *measure.Meter) error {
	if err := l.each(m, "set", func(i int, key, value []byte) error {
		l.c.Set(key, value)
		return nil
	}); err != nil {
		return err
	}
	found := make([]counter, l.goroutines)
	for _, name := range []string{"get", "get again"} {
		if err := l.each(m, name, func(i int, key, value []byte) error {
			i = l.entries - 1 - i
			fill(key, i)
			got, ok := l.c.HasGet(value[:0], key)
			if !ok {
				return nil
			}
			found[i%l.goroutines].n++ // each goroutine has another remainder
			if len(got) != valueBytes || binary.LittleEndian.Uint64(got) != uint64(i) {
				return fmt.Errorf("the value of entry %d is %q", i, got)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	hits := 0
	for _, c := range found {
		hits += c.n
	}
	m.Figure("found", "%", 100*float64(hits)/float64(2*l.entries))
	m.Resident("resident")
	return nil
}

// each calls f for every entry, and reports how long a call takes. f gets the entry's key and value in memory that it
// may use.
func (l *load) each(m *measure.Meter, name string, f func(i int, key, value []byte) error) error {
	began := time.Now()
	err := measure.Together(l.goroutines, func(g int) error {
		var h measure.Histogram
		defer m.AddLatency(&h)
		key, value := make([]byte, 16), make([]byte, valueBytes)
		for i, n := g, 0; i < l.entries; i, n = i+l.goroutines, n+1 {
			fill(key, i)
			binary.LittleEndian.PutUint64(value, uint64(i))
			if n%measure.SampleEvery != 0 {
				if err := f(i, key, value); err != nil {
					return err
				}
				continue
			}
			b := time.Now()
			if err := f(i, key, value); err != nil {
				return err
			}
			h.Record(time.Since(b))
		}
		return nil
	})
	m.Figure(name, "ns", float64(time.Since(began).Nanoseconds())*float64(l.goroutines)/float64(l.entries))
	return err
}

// fill writes the key of an entry.
func fill(key []byte, i int) {
	binary.LittleEndian.PutUint64(key, uint64(i)*0x9E3779B97F4A7C15) // 2^64 over the golden ratio: spreads them
	binary.LittleEndian.PutUint64(key[8:], uint64(i))
}

// refill sets all entries, unmeasured.
func (l *load) refill() error {
	return l.each(new(measure.Meter), "", func(_ int, key, value []byte) error {
		l.c.Set(key, value)
		return nil
	})
}

// reset looks at what Reset leaves, and fills the cache once more.
func (l *load) reset(m *measure.Meter) error {
	l.c.Reset()
	m.Left("later after Reset")
	return l.refill()
}

// close closes the cache. The original has Reset for that.
func (l *load) close(*measure.Meter) error {
	if c, ok := l.c.(interface{ Close() }); ok {
		c.Close()
	} else {
		l.c.Reset()
	}
	l.c = nil
	return nil
}

// drop fills another cache, forgets it, and looks at what is left after two collections.
func (l *load) drop(m *measure.Meter) error {
	l.c = l.fresh(l.bytes)
	if err := l.refill(); err != nil {
		return err
	}
	l.c = nil
	runtime.GC()
	runtime.GC()
	m.Left("later after a drop")
	return nil
}
