package main

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

// TestContenders: each cache returns what was set, and runs the load without a wrong value.
func TestContenders(t *testing.T) {
	l := load{mib: leastMiB, ops: 20_000, goroutines: 2}
	for _, m := range makers {
		t.Run(m.name, func(t *testing.T) {
			c, err := m.make(int64(l.mib)<<20, l.entries())
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			key := []byte("a key")
			c.set(string(key), []byte("value"))
			key[0] = 'x'
			got, found := c.get([]byte("before "), "a key")
			for range 1000 { // ristretto sets some time later
				if found {
					break
				}
				time.Sleep(time.Millisecond)
				got, found = c.get([]byte("before "), "a key")
			}
			if string(got) != "before value" || !found {
				t.Errorf("%q, %t", got, found)
			}
			if _, found := c.get(nil, "another"); found {
				t.Error("found what was not set")
			}
			workers := l.workers(c)
			r, err := measure.Run(measure.Job{
				Warm: func() error { return l.warm(workers) },
				Work: func(m *measure.Meter) error { return l.run(m, workers) },
			}, measure.Setting{})
			if err != nil {
				t.Fatal(err)
			}
			hits := -1.0
			for _, f := range r.Figures {
				if f.Name == "hits" {
					hits = f.Value
				}
			}
			if hits <= 0 || hits >= 100 || r.Operations < uint64(l.ops) || r.P999 <= 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// liar returns for every key what it was given last.
type liar struct{ last []byte }

func (l *liar) get(dst []byte, _ string) ([]byte, bool) { return append(dst, l.last...), true }
func (l *liar) set(_ string, value []byte)              { l.last = append(l.last[:0], value...) }
func (l *liar) close()                                  {}

// TestWrongValue: a value that was not set for its key ends the run.
func TestWrongValue(t *testing.T) {
	l := load{mib: leastMiB, ops: 1000, goroutines: 1}
	if err := l.warm(l.workers(&liar{last: make([]byte, leastLen)})); err == nil {
		t.Error("a cache that returns wrong values runs without an error")
	}
}
