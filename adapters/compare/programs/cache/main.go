// Command cache is the comparison "cache": package cache of hakmem and other in-memory caches under the same load.
// The command compare starts it.
//
// Keys are drawn by popularity: the k-th has the weight 1/(k+1)^1.01, among four times as many as fit. The length of a
// value follows from its key, from 64 to 4096 bytes, evenly over the logarithm. A read that misses sets the key,
// and one operation in twenty sets it in any case. Each value read is verified. Every cache is given the same
// number of bytes, and counts in its own way what it takes: so the resident memory is in the table, next to the
// hit rate that it buys.
package main

import (
	"slices"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

func main() { measure.Main(measure.Program{Start: begin}) }

const (
	fullMiB  = 1024
	leastMiB = 32 // that of the smallest fastcache
	fullOps  = 5_000_000
)

func begin(s measure.Setting) (measure.Job, error) {
	i := slices.IndexFunc(makers, func(m maker) bool { return m.name == s.Variant })
	if i < 0 {
		return measure.Job{}, measure.UnknownVariant(s)
	}
	l := load{mib: max(s.Of(fullMiB), leastMiB), ops: s.Of(fullOps), goroutines: s.Goroutines}
	c, err := makers[i].make(int64(l.mib)<<20, l.entries())
	if err != nil {
		return measure.Job{}, err
	}
	workers := l.workers(c)
	return measure.Job{
		Warm: func() error { return l.warm(workers) },
		Work: func(m *measure.Meter) error { return l.run(m, workers) },
		Close: func(*measure.Meter) error {
			workers = nil
			c.close()
			c = nil
			return nil
		},
	}, nil
}
