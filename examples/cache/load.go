package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// store is a cache under load.
type store interface {
	Set(key string, value []byte) error
	GetInto(dst []byte, key string) (value []byte, found bool)
	counts() counts
	Close() error
}

// counts are what a store holds and has done.
type counts struct {
	hits, misses, sets, evictions uint64
	entries                       int
	blockBytes, valueBytes        int64
}

// config describes a load run, as set by the flags.
type config struct {
	bytes      byteSize // limit of the cache
	seconds    float64  // length of the measured phase
	goroutines int
	min, max   byteSize // lengths of values
	read       float64  // share of operations that read
}

// result is what was measured in the run of one backend. The child process passes it to its parent
// as JSON.
type result struct {
	Backend string
	Seconds float64
	Procs   int // GOMAXPROCS

	Ops, Hits, Misses, Sets, Evictions uint64

	Entries    int
	BlockBytes int64 // counted as the cache's limit counts them
	ValueBytes int64

	P50, P999, Worst time.Duration // of single operations

	GCCPUSeconds float64
	GCCycles     uint64
	GCPause      time.Duration // the longest

	RSS, PeakRSS int64 // 0: not known on this system
}

// keyLen is the length of every key: "key:" and 16 hexadecimal digits.
const keyLen = 4 + 16

// Keys are drawn from a Zipf distribution over twice as many as the cache
// holds: the k-th most popular has the weight 1/(k+8)^1.01. Lengths of values
// are spread evenly over the logarithm, as in real caches: as many between 64
// and 128 bytes as between 8 and 16 KiB.
const (
	zipfExponent = 1.01
	zipfOffset   = 8
	keysPerEntry = 2
	fillFactor   = 1.2 // entries written to fill the cache, per entry expected to fit
)

// entries is the number of entries expected to fit.
func (c *config) entries() float64 {
	mean := float64(c.min)
	if c.max > c.min {
		mean = float64(c.max-c.min) / math.Log(float64(c.max)/float64(c.min))
	}
	return float64(c.bytes) / (mean + keyLen)
}

// run fills the cache to its limit, calls begin, and puts the cache under load until keepGoing
// returns false. Each goroutine calls keepGoing before each step.
func run(cfg config, cache store, begin func() (keepGoing func() bool)) (result, error) {
	var failed firstError
	workers := make([]*worker, cfg.goroutines)
	for i := range workers {
		workers[i] = newWorker(cfg, cache, uint64(i))
	}

	var todo atomic.Int64
	todo.Store(int64(cfg.entries()*fillFactor) + 1)
	together(workers, func(w *worker) {
		for id := todo.Add(-1); id >= 0 && !failed.set(w.write(uint64(id))); id = todo.Add(-1) {
		}
	})
	filled := cache.counts()

	runtime.GC() // so that everything counted from here on belongs to the load
	for _, w := range workers {
		w.latency = histogram{}
	}
	keepGoing := begin()
	gcBefore, start := readGC(), time.Now()
	together(workers, func(w *worker) {
		for keepGoing() && !failed.set(w.step()) {
		}
	})
	elapsed, gc := time.Since(start), readGC()
	rss, peak := readRSS()
	if failed.err != nil {
		return result{}, failed.err
	}

	var all histogram
	for _, w := range workers {
		all.add(&w.latency)
	}
	s := cache.counts()
	return result{
		Seconds: elapsed.Seconds(), Procs: runtime.GOMAXPROCS(0),
		Ops: all.n, Hits: s.hits - filled.hits, Misses: s.misses - filled.misses,
		Sets: s.sets - filled.sets, Evictions: s.evictions - filled.evictions,
		Entries: s.entries, BlockBytes: s.blockBytes, ValueBytes: s.valueBytes,
		P50: all.quantile(0.5), P999: all.quantile(0.999), Worst: all.max,
		GCCPUSeconds: gc.cpuSeconds - gcBefore.cpuSeconds,
		GCCycles:     gc.cycles - gcBefore.cycles,
		GCPause:      gc.worstPause(gcBefore),
		RSS:          rss, PeakRSS: peak,
	}, nil
}

// together runs f for each worker, in a goroutine of its own, and waits for all of them.
func together[W any](workers []W, f func(W)) {
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { f(w) })
	}
	wg.Wait()
}

// firstError keeps the first error of several goroutines and makes all of them stop.
type firstError struct {
	stop atomic.Bool
	once sync.Once
	err  error
}

func (f *firstError) set(err error) (stop bool) {
	if err != nil {
		f.once.Do(func() { f.err = err; f.stop.Store(true) })
	}
	return f.stop.Load()
}

// worker is one goroutine's share of the load. Once it is made it allocates nothing in the Go heap.
type worker struct {
	cfg        config
	cache      store
	rng        *rand.Rand
	zipf       *rand.Zipf
	key        []byte
	value, got []byte
	start      time.Time
	latency    histogram
}

func newWorker(cfg config, cache store, seed uint64) *worker {
	rng := rand.New(rand.NewPCG(seed, 1))
	return &worker{
		cfg: cfg, cache: cache, rng: rng,
		zipf:  rand.NewZipf(rng, zipfExponent, zipfOffset, uint64(cfg.entries()*keysPerEntry)),
		key:   append(make([]byte, 0, keyLen), "key:0000000000000000"...),
		value: make([]byte, cfg.max),
		got:   make([]byte, 0, cfg.max),
		start: time.Now(),
	}
}

// step does one operation on a random key. A read that misses is followed by a write, as in a real
// program.
func (w *worker) step() error {
	id := w.zipf.Uint64()
	if w.rng.Float64() < w.cfg.read {
		if found, err := w.read(id); found || err != nil {
			return err
		}
	}
	return w.write(id)
}

// read gets the key's value and verifies it.
func (w *worker) read(id uint64) (found bool, err error) {
	w.setKey(id)
	began := time.Since(w.start)
	w.got, found = w.cache.GetInto(w.got[:0], w.keyString())
	w.latency.record(time.Since(w.start) - began)
	if !found {
		return false, nil
	}
	if at := mismatch(w.got, id); at >= 0 {
		return true, fmt.Errorf("corrupt value: the key %s has a value of %d bytes that is wrong at byte %d", w.key, len(w.got), at)
	}
	return true, nil
}

// write sets the key to a value of random length.
func (w *worker) write(id uint64) error {
	w.setKey(id)
	ratio := float64(w.cfg.max) / float64(w.cfg.min)
	n := int(float64(w.cfg.min) * math.Pow(ratio, w.rng.Float64()))
	value := w.value[:min(max(n, int(w.cfg.min)), int(w.cfg.max))]
	fillPattern(value, id)
	began := time.Since(w.start)
	err := w.cache.Set(w.keyString(), value)
	w.latency.record(time.Since(w.start) - began)
	return err
}

// keyString is the key without a copy. The caches do not keep it.
func (w *worker) keyString() string { return unsafe.String(unsafe.SliceData(w.key), len(w.key)) }

func (w *worker) setKey(id uint64) {
	for i := keyLen - 1; i >= 4; i-- {
		w.key[i] = "0123456789abcdef"[id&15]
		id >>= 4
	}
}

// The contents of a value follow from its key and its length: a sequence of 64-bit words, each of
// them the previous one plus an odd constant. A block that overlaps another, that was freed too
// early, or that mixes two lengths has wrong contents.
const patternStep = 0x9e3779b97f4a7c15

func patternStart(id uint64, n int) uint64 {
	x := (id<<24 ^ uint64(n)) * 0xbf58476d1ce4e5b9
	return x ^ x>>31
}

func fillPattern(value []byte, id uint64) {
	x := patternStart(id, len(value))
	for len(value) >= 8 {
		binary.LittleEndian.PutUint64(value, x)
		x += patternStep
		value = value[8:]
	}
	for i := range value {
		value[i] = byte(x >> (8 * i))
	}
}

// mismatch returns the place at which value differs from its pattern, to within 8 bytes, or -1.
func mismatch(value []byte, id uint64) int {
	n := len(value)
	x := patternStart(id, n)
	for len(value) >= 8 {
		if binary.LittleEndian.Uint64(value) != x {
			return n - len(value)
		}
		x += patternStep
		value = value[8:]
	}
	for i := range value {
		if value[i] != byte(x>>(8*i)) {
			return n - len(value)
		}
	}
	return -1
}
