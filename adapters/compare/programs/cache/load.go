package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

// load is what each cache gets to do.
type load struct {
	mib, ops, goroutines int
}

const (
	keyBytes                 = 16 // hexadecimal digits
	leastLen, mostLen        = 64, 4096
	zipfExponent             = 1.01
	keysPerEntry             = 4
	setEvery                 = 20
	warmUp                   = 2                  // half as many operations
	hashStep          uint64 = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio: spreads numbers that follow each other
)

// entries is about how many entries fit.
func (l load) entries() int {
	mean := (mostLen - leastLen) / math.Log(float64(mostLen)/leastLen)
	return int(float64(l.mib<<20) / (mean + keyBytes))
}

// workers makes a worker for each goroutine.
func (l load) workers(c contender) []*worker {
	workers := make([]*worker, l.goroutines)
	for i := range workers {
		workers[i] = newWorker(l, c, uint64(i))
	}
	return workers
}

// warm fills the cache.
func (l load) warm(workers []*worker) error {
	if err := l.together(workers, l.ops/warmUp); err != nil {
		return err
	}
	for _, w := range workers {
		w.hits, w.reads, w.latency = 0, 0, measure.Histogram{}
	}
	return nil
}

// run runs the load and reports what there is to say of a cache.
func (l load) run(m *measure.Meter, workers []*worker) error {
	began := time.Now()
	if err := l.together(workers, l.ops); err != nil {
		return err
	}
	elapsed := time.Since(began)
	hits, reads, ops := 0, 0, uint64(0)
	for _, w := range workers {
		hits += w.hits
		reads += w.reads
		ops += w.latency.Count()
		m.AddLatency(&w.latency)
	}
	m.Figure("operations", "/s", float64(ops)/elapsed.Seconds())
	m.Figure("hits", "%", 100*float64(hits)/float64(max(reads, 1)))
	m.Resident("resident")
	return nil
}

func (l load) together(workers []*worker, ops int) error {
	return measure.Together(len(workers), func(g int) error {
		for range ops/len(workers) + 1 {
			if err := workers[g].step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// worker is one goroutine's share of the load.
type worker struct {
	c               contender
	rng             *rand.Rand
	zipf            *rand.Zipf
	key, value, got []byte
	start           time.Time
	latency         measure.Histogram // of a read, or of the read and the set that follows
	hits, reads     int
}

func newWorker(l load, c contender, seed uint64) *worker {
	rng := rand.New(rand.NewPCG(seed, 1))
	return &worker{
		c: c, rng: rng, zipf: rand.NewZipf(rng, zipfExponent, 1, uint64(l.entries())*keysPerEntry),
		key: make([]byte, keyBytes), value: make([]byte, mostLen), got: make([]byte, 0, mostLen), start: time.Now(),
	}
}

// step reads a key, and sets it if it is not there, or now and then.
func (w *worker) step() error {
	n := w.zipf.Uint64() * hashStep
	for i := range w.key {
		w.key[i] = "0123456789abcdef"[n>>(4*i)&15]
	}
	key := unsafe.String(unsafe.SliceData(w.key), len(w.key)) // no contender keeps it
	value := w.valueOf(n)
	set := w.rng.IntN(setEvery) == 0
	began := time.Since(w.start)
	if !set {
		var found bool
		w.got, found = w.c.get(w.got[:0], key)
		set = !found
		w.reads++
		if found {
			w.hits++
		}
	}
	wrong := !set && (len(w.got) != len(value) || binary.LittleEndian.Uint64(w.got) != n)
	if set {
		w.c.set(key, value)
	}
	w.latency.Record(time.Since(w.start) - began)
	if wrong {
		return fmt.Errorf("the value of key %s has %d bytes and begins %q: it is not what was set", key, len(w.got), w.got[:min(len(w.got), 8)])
	}
	return nil
}

// valueOf returns the value of a key, which begins with the key's number.
func (w *worker) valueOf(n uint64) []byte {
	share := float64(n*hashStep>>11) / (1 << 53)
	length := int(leastLen * math.Pow(float64(mostLen)/leastLen, share))
	v := w.value[:length]
	binary.LittleEndian.PutUint64(v, n)
	return v
}
