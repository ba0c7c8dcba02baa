package loops

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/bench/result"
)

// The observer: hashes, verifies or times the operations of a loop. Each worker has an observer of
// its own; a checker is shared by all, under its mu.

// An Observation is what the observed loop does in addition to running.
type Observation string

// The observations.
const (
	// ObserveHash hashes each thread's operations: two programs with the same hashes perform the
	// same operations.
	ObserveHash Observation = "hash"
	// ObserveVerify fills every block to its end and checks it when it is freed.
	ObserveVerify Observation = "verify"
	// ObserveLatency takes the time of sampled operations.
	ObserveLatency Observation = "latency"
)

// sampleEvery is the mean distance between two sampled operations. The two readings of the clock,
// some 50 ns, then add about 1 ns to each operation.
const sampleEvery = 64

// observer stands between a worker's loop and an allocator. It belongs to the worker.
type observer struct {
	a    calls
	what Observation
	on   bool // the timed part runs

	hash uint64

	check *checker

	x     uint64 // of the random distances between samples
	left  uint64 // operations until the next sample
	times histogram
	clock histogram
}

// epoch is the moment from which ticks counts. Go reads one clock for the time since a moment, and
// two clocks for the time itself.
var epoch = time.Now()

func ticks() time.Duration { return time.Since(epoch) }

const fnvOffset, fnvPrime = 14695981039346656037, 1099511628211 // FNV-1a, 64 bits

func newObserver(a calls, what Observation, seed uint32, check *checker) *observer {
	o := &observer{a: a, what: what, hash: fnvOffset, check: check, x: uint64(seed) | 1<<32}
	o.left = o.distance()
	return o
}

// close ends the use of the allocator. It is called after the loop; o may be nil.
func (o *observer) close() {
	if o != nil && o.a.close != nil {
		o.a.close()
	}
}

// note adds one operation to the hash.
func (o *observer) note(op, size, slot uint64) {
	for _, word := range [...]uint64{op, size, slot} {
		o.hash = (o.hash ^ word) * fnvPrime
	}
}

// distance draws the number of operations up to the next sample. It is uniform, so that the samples
// do not follow any period of the loop.
func (o *observer) distance() uint64 {
	o.x = step(o.x)
	return 1 + below(o.x, 2*sampleEvery-1)
}

// sampled reports whether this operation is to be timed.
func (o *observer) sampled() bool {
	if o.what != ObserveLatency || !o.on {
		return false
	}
	if o.left--; o.left != 0 {
		return false
	}
	o.left = o.distance()
	start := ticks() // the clock's own cost, in the same state of the caches
	o.clock.add(ticks() - start)
	return true
}

// touch writes a block's first byte, if it has one.
func touch(p unsafe.Pointer, size uintptr) {
	if size > 0 {
		*(*byte)(p) = 1
	}
}

// enter and leave are the first and the last call that a goroutine makes for the allocator. The
// calls of an observer serve whichever goroutine has it, so there is nothing to do here. A copy of
// the loops has in their place what its allocator needs, such as a Heap made and closed
// (gen/families.go).
func (o *observer) enter() {}
func (o *observer) leave() {}

// malloc returns a new block for the slot of that number; the slot is part of the hash.
func (o *observer) malloc(size uintptr, slot uint64) (p unsafe.Pointer) {
	if o.sampled() {
		start := ticks()
		p = o.a.malloc(size)
		touch(o.a.data(p), size)
		o.times.add(ticks() - start)
	} else {
		p = o.a.malloc(size)
	}
	o.came(p, size, slot)
	return p
}

func (o *observer) calloc(size uintptr, slot uint64) (p unsafe.Pointer) {
	if o.sampled() {
		start := ticks()
		p = o.a.calloc(size)
		touch(o.a.data(p), size)
		o.times.add(ticks() - start)
	} else {
		p = o.a.calloc(size)
	}
	if o.check != nil {
		o.check.zeroed(o.a.data(p), size)
	}
	o.came(p, size, slot)
	return p
}

func (o *observer) memalign(align, size uintptr, slot uint64) (p unsafe.Pointer) {
	if o.sampled() {
		start := ticks()
		p = o.a.memalign(align, size)
		touch(o.a.data(p), size)
		o.times.add(ticks() - start)
	} else {
		p = o.a.memalign(align, size)
	}
	if o.check != nil && o.a.aligns {
		o.check.aligned(o.a.data(p), align)
	}
	o.came(p, size, slot)
	return p
}

// came is called for each new block.
func (o *observer) came(p unsafe.Pointer, size uintptr, slot uint64) {
	switch o.what {
	case ObserveHash:
		o.note(1, uint64(size), slot)
	case ObserveVerify:
		o.check.came(o.a.data(p), size)
	}
}

func (o *observer) realloc(p unsafe.Pointer, size, more uintptr, slot uint64) (q unsafe.Pointer) {
	var old block
	if o.check != nil {
		old = o.check.gone(o.a.data(p))
	}
	if o.sampled() {
		start := ticks()
		q = o.a.realloc(p, size, more)
		touch(o.a.data(q), more)
		o.times.add(ticks() - start)
	} else {
		q = o.a.realloc(p, size, more)
	}
	if o.check != nil {
		o.check.kept(o.a.data(q), old, more)
	}
	o.came(q, more, slot)
	return q
}

// free gives back block p, of the slot.
func (o *observer) free(p unsafe.Pointer, slot uint64) {
	if o.what == ObserveHash {
		o.note(0, 0, slot)
	}
	o.freeHanded(p)
}

// freeHanded gives back a block that another thread handed over. Which block that is depends on the
// scheduler, so it is not part of the hash.
func (o *observer) freeHanded(p unsafe.Pointer) {
	if o.check != nil {
		o.check.gone(o.a.data(p))
	}
	if o.sampled() {
		start := ticks()
		o.a.free(p)
		o.times.add(ticks() - start)
	} else {
		o.a.free(p)
	}
}

// freeInTurn is freeHanded where threads take turns on the slots, otherwise free.
func (o *observer) freeInTurn(p unsafe.Pointer, slot uint64, threaded bool) {
	if threaded {
		o.freeHanded(p)
	} else {
		o.free(p, slot)
	}
}

// data is the address of block p's bytes. A loop writes them with write: while blocks are verified
// their bytes do not belong to the loop.
func (o *observer) data(p unsafe.Pointer) unsafe.Pointer { return o.a.data(p) }

// write writes 1 into the byte at offset off, except in a verified block, which holds the checker's
// pattern. The same exception applies to fill and sum: fill writes the word v into the whole block,
// and sum adds up its words (a rest of less than 8 bytes is left alone).
func (o *observer) write(p unsafe.Pointer, off uintptr) {
	if o.check == nil {
		*(*byte)(unsafe.Add(o.a.data(p), off)) = 1
	}
}

func (o *observer) fill(p unsafe.Pointer, size uintptr, v uint64) {
	if o.check == nil {
		fillWords(o.a.data(p), size, v)
	}
}

func (o *observer) sum(p unsafe.Pointer, size uintptr) uint64 {
	if o.check == nil {
		return sumWords(o.a.data(p), size)
	}
	return 0
}

// checker knows the live blocks of all threads and their contents, so that it notices two blocks
// that overlap. Any goroutine may call it.
type checker struct {
	mu     sync.Mutex
	live   map[uintptr]block
	seed   uint64
	count  uint64
	failed error // the first fault
}

type block struct {
	size uintptr
	seed uint64
}

func newChecker() *checker { return &checker{live: map[uintptr]block{}, seed: 1} }

// came fills a new block.
func (c *checker) came(p unsafe.Pointer, size uintptr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.live[uintptr(p)]; ok && size > 0 {
		c.fail(fmt.Errorf("the block at %#x (%d bytes) was given out again, for %d bytes, while alive", uintptr(p), old.size, size))
	}
	c.seed = step(c.seed)
	c.live[uintptr(p)] = block{size, c.seed}
	pattern(p, size, c.seed)
}

// gone checks a block that is about to be freed, and returns its description.
func (c *checker) gone(p unsafe.Pointer) block {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.live[uintptr(p)]
	if !ok {
		c.fail(fmt.Errorf("the block at %#x is freed and was not allocated", uintptr(p)))
		return block{}
	}
	delete(c.live, uintptr(p))
	c.count++
	if off := differs(p, b.size, b.seed); off >= 0 {
		c.fail(fmt.Errorf("byte %d of the block at %#x (%d bytes) changed while it was alive", off, uintptr(p), b.size))
	}
	return b
}

// kept checks that the block at p begins with the contents of old, which was reallocated to p.
func (c *checker) kept(p unsafe.Pointer, old block, size uintptr) {
	if off := differs(p, min(old.size, size), old.seed); off >= 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fail(fmt.Errorf("byte %d of the block at %#x was lost when %d bytes were reallocated to %d", off, uintptr(p), old.size, size))
	}
}

// aligned checks the address of a new block.
func (c *checker) aligned(p unsafe.Pointer, align uintptr) {
	if uintptr(p)%align != 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fail(fmt.Errorf("the block at %#x is not aligned to %d", uintptr(p), align))
	}
}

// zeroed checks a new block that must hold zeros.
func (c *checker) zeroed(p unsafe.Pointer, size uintptr) {
	for i, v := range unsafe.Slice((*byte)(p), size) {
		if v != 0 {
			c.mu.Lock()
			c.fail(fmt.Errorf("byte %d of the zeroed block at %#x (%d bytes) is %d", i, uintptr(p), size, v))
			c.mu.Unlock()
			return
		}
	}
}

// fail keeps the first fault. Called with mu held.
func (c *checker) fail(err error) {
	if c.failed == nil {
		c.failed = err
	}
}

// pattern writes the bytes of seed, again and again. differs returns the offset of the first word
// or byte that does not match, or -1 if all match. Every allocator aligns a block of 8 bytes or
// more to 8.
func pattern(p unsafe.Pointer, size uintptr, seed uint64) {
	fillWords(p, size, seed)
	bytes := (*[8]byte)(unsafe.Pointer(&seed))
	for i := size &^ 7; i < size; i++ {
		*(*byte)(unsafe.Add(p, i)) = bytes[i%8]
	}
}

func differs(p unsafe.Pointer, size uintptr, seed uint64) int {
	for off := uintptr(0); off < size&^7; off += 8 {
		if *(*uint64)(unsafe.Add(p, off)) != seed {
			return int(off)
		}
	}
	bytes := (*[8]byte)(unsafe.Pointer(&seed))
	for i := size &^ 7; i < size; i++ {
		if *(*byte)(unsafe.Add(p, i)) != bytes[i%8] {
			return int(i)
		}
	}
	return -1
}

// histogram counts times in nanoseconds. Each time below 2048 is counted by itself; above there are
// 1024 steps for every doubling, a resolution of three decimal digits.
type histogram struct{ counts map[uint64]uint64 }

func (h *histogram) add(d time.Duration) {
	if h.counts == nil {
		h.counts = map[uint64]uint64{}
	}
	h.counts[bucket(uint64(max(d, 0)))]++
}

// bucket is the smallest time that is counted together with ns.
func bucket(ns uint64) uint64 {
	if shift := bits.Len64(ns) - 11; shift > 0 {
		return ns >> shift << shift
	}
	return ns
}

// merge adds other's counts.
func (h *histogram) merge(other *histogram) {
	if h.counts == nil {
		h.counts = map[uint64]uint64{}
	}
	for ns, n := range other.counts {
		h.counts[ns] += n
	}
}

// pairs lists the times in ascending order, each with its count.
func (h *histogram) pairs() [][2]uint64 {
	list := make([][2]uint64, 0, len(h.counts))
	for ns, n := range h.counts {
		list = append(list, [2]uint64{ns, n})
	}
	slices.SortFunc(list, func(a, b [2]uint64) int { return int(a[0]) - int(b[0]) })
	return list
}

// observed sums up what the workers' observers saw. The error is the first fault that verification
// found.
func observed(workers []*worker, what Observation, check *checker) (*result.Observed, error) {
	r := &result.Observed{}
	var clock, times histogram
	for _, w := range workers {
		if what == ObserveHash {
			r.Hashes = append(r.Hashes, fmt.Sprintf("%016x", w.obs.hash))
		}
		for _, o := range []*observer{w.obs, w.partner.obs} {
			clock.merge(&o.clock)
			times.merge(&o.times)
		}
	}
	if what == ObserveLatency {
		r.Clock, r.Latency, r.Every = clock.pairs(), times.pairs(), sampleEvery
	}
	if check != nil {
		r.Verified = check.count
		if check.failed != nil {
			return r, check.failed
		}
		if n := len(check.live); n > 0 {
			return r, fmt.Errorf("%d blocks were never freed", n)
		}
	}
	return r, nil
}
