// Package profile keeps the books of a sampled profile of allocations: which blocks become samples, the
// buckets in which they are counted, and how a program's totals follow from them. It knows nothing of the
// allocator, and it has no lock: who owns a Table says who may use it when.
//
// A block is a sample with a probability that depends on its size alone. Bytes are counted down from a
// gap, drawn from an exponential distribution, to the next sample. That distribution has no memory, so that it
// makes no difference where a countdown begins: each byte is as likely as any other to be the one at which a
// gap ends. A block of S bytes has such a byte with the probability 1-exp(-S/R), where R is the mean gap. The
// idea is that of tcmalloc and of Go's own heap profile.
//
// All blocks of a bucket have one size. So the number of blocks that a bucket stands for is that of its samples
// divided by that probability, without a bias. (jemalloc's source says what goes wrong where sizes are mixed.)
package profile

import (
	"encoding/binary"
	"math"
	"runtime"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
)

// Rate is the mean gap between two samples in bytes. At 1 each block is a sample, and at 0 or below none is.
type Rate int64

// Gap returns how many bytes go by until the next sample, given a random number x of the exponential
// distribution with mean 1. The block that takes the count below 0 is the sample.
func (r Rate) Gap(x float64) int64 {
	if r <= 1 {
		return 0 // the next block, whatever its size
	}
	return int64(x * float64(r))
}

// Weight returns for how many blocks of size bytes one sample stands.
func (r Rate) Weight(size mem.Bytes) float64 {
	if r <= 1 {
		return 1
	}
	return -1 / math.Expm1(-float64(size)/float64(r))
}

// Counts are numbers of samples.
type Counts struct {
	Allocs, Frees int64 // of blocks that were allocated, and those of them that were freed
}

// Live returns how many are not freed.
func (c Counts) Live() int64 { return c.Allocs - c.Frees }

// Bucket counts the samples with one stack, one size and one site.
type Bucket struct {
	stack []uintptr
	size  mem.Bytes
	site  site.ID
	now   Counts
	// peak is what now was at the peak number seen of the Table. If there has been another peak since, it is what
	// now is: nothing has changed in between.
	peak Counts
	seen uint64
	// What the Table would have to reckon for each sample: the bytes that one stands for, and those of its group that
	// were freed last, nil before the first.
	stands float64
	freed  *recents
}

// Stack returns the stack of the bucket's samples. It must not be changed.
func (b *Bucket) Stack() []uintptr { return b.stack }

// Table has the buckets of a profile. They are never forgotten, like those of Go's own profile: their number is
// that of the places that allocate, times the sizes that each of them asks for.
type Table struct {
	rate    Rate
	own     func(function string) bool
	ownPCs  map[uintptr]bool
	buckets []*Bucket
	by      map[string]*Bucket // by stack, size and site
	byPath  map[string]*Bucket // by path, size and site
	key     []byte             // of the bucket that is looked for
	live    float64            // the bytes for which all live samples stand
	peak    float64            // the most that live has been
	peaks   uint64             // how many times live has been more than ever before

	grouped mem.Bytes              // samples of more bytes are one group
	freed   map[mem.Bytes]*recents // the last ones that were freed, by group
}

// recents are the last samples of a group that were freed, in a ring.
type recents struct {
	last [keptFrees]*Bucket
	n    uint64 // of all that were freed
}

// keptFrees is how many samples a group keeps. At 512 KiB a sample they stand for 128 MiB of freed memory at least.
const keptFrees = 256

// NewTable returns an empty Table. own reports whether a function, by its name, belongs to the allocator:
// stacks begin with the first function that does not. Of blocks with at most grouped bytes each size is a group of
// its own for Held, and all others are one.
func NewTable(rate Rate, own func(function string) bool, grouped mem.Bytes) *Table {
	return &Table{rate: rate, own: own, ownPCs: map[uintptr]bool{}, by: map[string]*Bucket{}, byPath: map[string]*Bucket{}, grouped: grouped, freed: map[mem.Bytes]*recents{}}
}

// Alloc counts a sample of bucket b.
func (t *Table) Alloc(b *Bucket) {
	t.change(b)
	b.now.Allocs++
	if t.live += b.stands; t.live > t.peak {
		t.peak = t.live
		t.peaks++
	}
}

// Free counts that a sample of bucket b was freed.
func (t *Table) Free(b *Bucket) {
	t.change(b)
	b.now.Frees++
	t.live -= b.stands
	if b.freed == nil {
		b.freed = t.recents(b.size)
	}
	b.freed.last[b.freed.n%keptFrees] = b
	b.freed.n++
}

// recents returns the samples that were freed last of the group of blocks of size bytes.
func (t *Table) recents(size mem.Bytes) *recents {
	group := t.group(size)
	if t.freed[group] == nil {
		t.freed[group] = new(recents)
	}
	return t.freed[group]
}

// group returns the group of blocks of size bytes: the size, or 0 for that of all larger blocks.
func (t *Table) group(size mem.Bytes) mem.Bytes {
	if size > t.grouped {
		return 0
	}
	return size
}

// change is to be called before the counts of b change.
func (t *Table) change(b *Bucket) {
	if b.seen != t.peaks {
		b.peak, b.seen = b.now, t.peaks
	}
}

// Bucket returns the bucket of samples of size bytes and of a site (0: none) with a stack. stack is as
// runtime.Callers has it, one counter for each function, and one that was inlined has its own; the Table does not keep it.
func (t *Table) Bucket(stack []uintptr, size mem.Bytes, s site.ID) *Bucket {
	stack = t.outside(stack)
	key := t.keyOf(stack, size, s)
	if b := t.by[string(key)]; b != nil {
		return b
	}
	b := &Bucket{stack: append([]uintptr(nil), stack...), size: size, site: s, seen: t.peaks, stands: t.rate.Weight(size) * float64(size)}
	t.by[string(key)] = b
	t.buckets = append(t.buckets, b)
	return b
}

// Known returns the bucket that Know was given for samples with this path, or nil. A path is what the processor's stack
// holds: the addresses where the functions return to that were not inlined. Two stacks with one path are the same. It can be
// read much faster than a stack.
func (t *Table) Known(path []uintptr, size mem.Bytes, s site.ID) *Bucket {
	if len(path) == 0 {
		return nil
	}
	return t.byPath[string(t.keyOf(path, size, s))]
}

// Know notes the path of a sample of bucket b. An empty one is no path.
func (t *Table) Know(path []uintptr, b *Bucket) {
	if len(path) > 0 {
		t.byPath[string(t.keyOf(path, b.size, b.site))] = b
	}
}

// keyOf returns the key of a bucket in the maps. It is valid until the next call.
func (t *Table) keyOf(pcs []uintptr, size mem.Bytes, s site.ID) []byte {
	key := t.key[:0]
	key = binary.NativeEndian.AppendUint64(key, uint64(size))
	key = binary.NativeEndian.AppendUint32(key, uint32(s))
	for _, pc := range pcs {
		key = binary.NativeEndian.AppendUint64(key, uint64(pc))
	}
	t.key = key
	return key
}

// outside cuts the allocator's own frames off the front of a stack. If nothing would remain, it keeps all.
func (t *Table) outside(stack []uintptr) []uintptr {
	for i, pc := range stack {
		own, known := t.ownPCs[pc]
		if !known {
			// Each counter of runtime.Callers stands for one function, also where functions are inlined.
			f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
			own = t.own(f.Function)
			t.ownPCs[pc] = own
		}
		if !own {
			return stack[i:]
		}
	}
	return stack
}

// Sample is what a bucket has counted. Its stack must not be changed.
type Sample struct {
	Stack []uintptr
	Size  mem.Bytes
	Site  site.ID
	Counts
}

// Now returns what the buckets have counted so far. Their order never changes: new ones come behind the
// others.
func (t *Table) Now() []Sample {
	return t.read(func(b *Bucket) Counts { return b.now })
}

// AtPeak returns what the buckets had counted when their live samples stood for the most bytes.
func (t *Table) AtPeak() []Sample {
	return t.read(func(b *Bucket) Counts {
		if b.seen != t.peaks {
			return b.now
		}
		return b.peak
	})
}

func (t *Table) read(counts func(*Bucket) Counts) []Sample {
	list := make([]Sample, len(t.buckets))
	for i, b := range t.buckets {
		list[i] = Sample{b.stack, b.size, b.site, counts(b)}
	}
	return list
}

// Held is an estimate of memory that is free and still held, of blocks of one bucket.
type Held struct {
	Stack  []uintptr
	Size   mem.Bytes
	Site   site.ID
	Blocks int64
	Bytes  int64
}

// Held divides the bytes that are free and held of each group (0: that of the larger blocks) among the buckets whose samples were
// freed last, in proportion to what these stand for: so many samples as stand for the bytes, or all that are kept. A group of which
// no sample was freed gets nothing.
func (t *Table) Held(bytes func(group mem.Bytes) int64) (list []Held) {
	for group, f := range t.freed {
		held := float64(bytes(group))
		share := map[*Bucket]float64{}
		sum := 0.0
		for i := range min(f.n, keptFrees) {
			if sum >= held {
				break
			}
			b := f.last[(f.n-1-i)%keptFrees]
			x := min(b.stands, held-sum)
			share[b] += x
			sum += x
		}
		for b, x := range share {
			x *= held / sum
			list = append(list, Held{b.stack, b.size, b.site, int64(math.Round(x / float64(b.size))), int64(math.Round(x))})
		}
	}
	return list
}

// Since returns what was counted between two calls of the same Table's Now. Live may be below 0.
func Since(before, now []Sample) []Sample {
	list := append([]Sample(nil), now...)
	for i, b := range before {
		list[i].Allocs -= b.Allocs
		list[i].Frees -= b.Frees
	}
	return list
}

// Estimate returns the numbers of blocks and of bytes for which n samples of size bytes stand.
func (r Rate) Estimate(n int64, size mem.Bytes) (blocks, bytes int64) {
	x := float64(n) * r.Weight(size)
	return int64(math.Round(x)), int64(math.Round(x * float64(size)))
}
