package main

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// load is what each cache gets to do.
type load struct {
	MiB        int64
	Ops        int
	Goroutines int
}

// result is what was measured.
type result struct {
	OpsPerSecond   float64
	P999           time.Duration // of a read, or of the read and the Set that follows
	HitRate        float64
	Resident, Peak int64 // bytes; 0: not known on this system
	Collections    uint32
	Wrong          int // values that were not set for their key
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
	return int(float64(l.MiB<<20) / (mean + keyBytes))
}

// run warms the cache up, and measures.
func (l load) run(c contender) result {
	workers := make([]*worker, l.Goroutines)
	for i := range workers {
		workers[i] = newWorker(l, c, uint64(i))
	}
	l.together(workers, l.Ops/warmUp)
	for _, w := range workers {
		w.hits, w.reads, w.latency = 0, 0, histogram{}
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	l.together(workers, l.Ops)
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	r := result{Collections: after.NumGC - before.NumGC}
	r.Resident, r.Peak = readResident()
	var all histogram
	hits, reads := 0, 0
	for _, w := range workers {
		all.add(&w.latency)
		hits += w.hits
		reads += w.reads
		r.Wrong += w.wrong
	}
	r.OpsPerSecond = float64(all.n) / elapsed.Seconds()
	r.P999 = all.quantile(0.999)
	r.HitRate = float64(hits) / float64(max(reads, 1))
	return r
}

func (l load) together(workers []*worker, ops int) {
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			for range ops/l.Goroutines + 1 {
				w.step()
			}
		})
	}
	wg.Wait()
}

// worker is one goroutine's share of the load.
type worker struct {
	c                  contender
	rng                *rand.Rand
	zipf               *rand.Zipf
	key, value, got    []byte
	start              time.Time
	latency            histogram
	hits, reads, wrong int
}

func newWorker(l load, c contender, seed uint64) *worker {
	rng := rand.New(rand.NewPCG(seed, 1))
	return &worker{
		c: c, rng: rng, zipf: rand.NewZipf(rng, zipfExponent, 1, uint64(l.entries())*keysPerEntry),
		key: make([]byte, keyBytes), value: make([]byte, mostLen), got: make([]byte, 0, mostLen), start: time.Now(),
	}
}

// step reads a key, and sets it if it is not there, or now and then.
func (w *worker) step() {
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
	w.latency.record(time.Since(w.start) - began)
	if wrong {
		w.wrong++
	}
}

// valueOf returns the value of a key, which begins with the key's number.
func (w *worker) valueOf(n uint64) []byte {
	share := float64(n*hashStep>>11) / (1 << 53)
	length := int(leastLen * math.Pow(float64(mostLen)/leastLen, share))
	v := w.value[:length]
	binary.LittleEndian.PutUint64(v, n)
	return v
}

// histogram counts durations in nanoseconds, 32 buckets for each doubling.
type histogram struct {
	buckets [64 * 32]uint64
	n       uint64
}

func (h *histogram) record(d time.Duration) {
	ns := uint64(max(d, 0))
	shift := max(bits.Len64(ns), 6) - 6
	h.buckets[shift*32+int(ns>>shift)]++
	h.n++
}

func (h *histogram) add(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.n += o.n
}

// quantile returns a duration that the share q of all does not exceed, at most a 32nd too large.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	for i, n := range h.buckets {
		if rank < n {
			shift := max(i/32, 1) - 1
			return time.Duration((uint64(i-shift*32)+1)<<shift - 1)
		}
		rank -= n
	}
	return 0
}

// readResident returns the resident memory of this process and its peak in bytes; both are 0 on systems without
// /proc.
func readResident() (now, peak int64) {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "VmRSS:":
				now = kib << 10
			case "VmHWM:":
				peak = kib << 10
			}
		}
	}
	return now, peak
}
