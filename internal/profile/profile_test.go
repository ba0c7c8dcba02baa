package profile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
)

// TestCountdown: however the sizes of a program follow each other, the samples of each size stand for as many blocks
// as there were, to 5 standard deviations.
func TestCountdown(t *testing.T) {
	for _, rate := range []Rate{1, 2, 100, 4 << 10, 512 << 10} {
		for seed := range uint64(3) {
			r := rand.New(rand.NewPCG(seed, uint64(rate)))
			sizes := []mem.Bytes{16, 48, 1 << 10, 5 << 10, 100 << 10, 512 << 10, 3 << 20}
			samples, blocks := map[mem.Bytes]int64{}, map[mem.Bytes]int64{}
			left := rate.Gap(r.ExpFloat64())
			alloc := func(size mem.Bytes) {
				blocks[size]++
				if left -= int64(size); left < 0 {
					samples[size]++
					left = rate.Gap(r.ExpFloat64())
				}
			}
			for i := range 300_000 {
				// A program that does the same again and again, and one that does not.
				if i%2 == 0 {
					alloc(sizes[i/2%len(sizes)])
				} else {
					alloc(sizes[r.IntN(len(sizes))])
				}
			}
			for _, size := range sizes {
				p := 1 / rate.Weight(size)
				got, bytes := rate.Estimate(samples[size], size)
				sigma := math.Sqrt(float64(blocks[size])*p*(1-p)) / p
				if d := math.Abs(float64(got - blocks[size])); d > 5*sigma+2 {
					t.Errorf("rate %d, seed %d, %d bytes: %d blocks, want %d with a deviation of %.1f", rate, seed, size, got, blocks[size], sigma)
				}
				if rate == 1 && (got != blocks[size] || bytes != got*int64(size)) {
					t.Errorf("rate 1, %d bytes: %d blocks, %d bytes, want %d blocks", size, got, bytes, blocks[size])
				}
			}
		}
	}
}

func TestEstimate(t *testing.T) {
	for _, x := range []struct {
		rate          Rate
		n             int64
		size          mem.Bytes
		blocks, bytes int64
	}{
		{1, 3, 16, 3, 48},
		{0, 3, 16, 3, 48},
		{512 << 10, 0, 16, 0, 0},
		{512 << 10, 1, 16, 32769, 524296},            // 1/(1-exp(-16/524288)) = 32768.5
		{512 << 10, 1, 512 << 10, 2, 829411},         // 1/(1-1/e) = 1.58198
		{512 << 10, 10, 1 << 30, 10, 10 << 30},       // each is a sample
		{512 << 10, -1, 512 << 10, -2, -829411},      // a difference
		{1 << 40, 1, 16, 68719476737, 1099511627784}, // the largest rate
		{2, 1000, 16, 1000, 16005},                   // nearly each: 1.000335
	} {
		if blocks, bytes := x.rate.Estimate(x.n, x.size); blocks != x.blocks || bytes != x.bytes {
			t.Errorf("rate %d, %d samples of %d bytes: %d blocks, %d bytes, want %d and %d", x.rate, x.n, x.size, blocks, bytes, x.blocks, x.bytes)
		}
	}
}

func TestGap(t *testing.T) {
	for _, x := range []struct {
		rate Rate
		x    float64
		want int64
	}{{1, 30, 0}, {0, 1, 0}, {-5, 1, 0}, {512 << 10, 0, 0}, {512 << 10, 1, 512 << 10}, {512 << 10, 0.5, 256 << 10}, {1 << 40, 700, 700 << 40}} {
		if got := x.rate.Gap(x.x); got != x.want {
			t.Errorf("rate %d, %g: %d, want %d", x.rate, x.x, got, x.want)
		}
	}
}

// stackOf returns a stack as runtime.Callers has it, which begins with two functions that count as the allocator's.
//
//go:noinline
func stackOf() []uintptr { return ownCallers() }

//go:noinline
func ownCallers() []uintptr {
	var pcs [8]uintptr
	return pcs[:runtime.Callers(1, pcs[:])]
}

func own(function string) bool {
	return strings.HasSuffix(function, "profile.ownCallers") || strings.HasSuffix(function, "profile.stackOf")
}

// TestTable: buckets are by stack, size and site; the allocator's own frames are cut off.
func TestTable(t *testing.T) {
	table := NewTable(1, own, 1<<10)
	var buckets []*Bucket
	for i := range 6 {
		stack := stackOf()
		if i == 5 {
			stack = stackOf() // another line
		}
		size := mem.Bytes(16)
		if i == 1 {
			size = 32
		}
		buckets = append(buckets, sample(table, stack, size, 0))
	}
	other := sample(table, stackOf(), 16, 7)
	table.Free(buckets[0])
	table.Free(buckets[1])
	got := table.Now()
	if len(got) != 4 {
		t.Fatalf("%d buckets, want 4: %+v", len(got), got)
	}
	for i, want := range []struct {
		size   mem.Bytes
		counts Counts
	}{{16, Counts{4, 1}}, {32, Counts{1, 1}}, {16, Counts{1, 0}}, {16, Counts{1, 0}}} {
		f, _ := runtime.CallersFrames(got[i].Stack).Next()
		if got[i].Size != want.size || got[i].Counts != want.counts || !strings.HasSuffix(f.Function, ".TestTable") {
			t.Errorf("bucket %d: %+v, in %s", i, got[i], f.Function)
		}
	}
	if got[3].Site != 7 || got[0].Site != 0 || other == buckets[0] {
		t.Errorf("sites: %+v", got)
	}
	// A stack of nothing except the allocator's functions is kept.
	sample(table, stackOf()[:2], 16, 0)
	if got := table.Now()[4]; len(got.Stack) != 2 {
		t.Errorf("a stack of own functions: %+v", got)
	}
	sample(table, nil, 16, 0)
	if got := table.Now()[5]; len(got.Stack) != 0 || got.Allocs != 1 {
		t.Errorf("no stack: %+v", got)
	}
}

// TestPeak: what AtPeak returns is what Now returned when the most bytes were live, whatever happens afterwards.
func TestPeak(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	for round := range 50 {
		table := NewTable(Rate(1+round%3*1000), own, 1<<10)
		var want []Sample
		var live []*Bucket
		most, now := -1.0, 0.0
		for range 300 {
			if len(live) == 0 || r.IntN(10) < 5 {
				size := mem.Bytes(16 << r.IntN(8))
				b := sample(table, []uintptr{uintptr(1 + r.IntN(5))}, size, 0)
				live = append(live, b)
				if now += table.rate.Weight(size) * float64(size); now > most {
					most, want = now, table.Now()
				}
				continue
			}
			i := r.IntN(len(live))
			now -= table.rate.Weight(live[i].size) * float64(live[i].size)
			table.Free(live[i])
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		}
		got := table.AtPeak()
		for len(want) < len(got) { // buckets that came later
			s := got[len(want)]
			s.Counts = Counts{}
			want = append(want, s)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("round %d: at the peak\n%+v, want\n%+v", round, got, want)
		}
	}
}

func TestSince(t *testing.T) {
	table := NewTable(1, own, 1<<10)
	a := sample(table, []uintptr{1}, 16, 0)
	before := table.Now()
	table.Free(a)
	sample(table, []uintptr{2}, 16, 0)
	got := Since(before, table.Now())
	if len(got) != 2 || got[0].Counts != (Counts{0, 1}) || got[0].Live() != -1 || got[1].Counts != (Counts{1, 0}) {
		t.Errorf("%+v", got)
	}
	if before[0].Counts != (Counts{1, 0}) {
		t.Errorf("the first reading has changed: %+v", before)
	}
}

func ExampleRate_Weight() {
	// At Go's own rate one sample of 16 bytes stands for 32768 blocks, one of a MiB for little more than itself.
	fmt.Printf("%.0f %.2f\n", Rate(512<<10).Weight(16), Rate(512<<10).Weight(1<<20))
	// Output: 32769 1.16
}

// sample counts a sample, as the engine does where no path is known.
func sample(t *Table, stack []uintptr, size mem.Bytes, s site.ID) *Bucket {
	b := t.Bucket(stack, size, s)
	t.Alloc(b)
	return b
}

// TestPaths: a path leads to the bucket that it was noted for, for its size and site only; no path leads to none.
func TestPaths(t *testing.T) {
	table := NewTable(512<<10, func(string) bool { return false }, 1<<10)
	stack, path := []uintptr{1, 2, 3}, []uintptr{1, 3}
	if table.Known(path, 16, 0) != nil || table.Known(nil, 16, 0) != nil {
		t.Fatal("a path is known before it was noted")
	}
	a, b := table.Bucket(stack, 16, 0), table.Bucket(stack, 32, 0)
	table.Know(path, a)
	table.Know(nil, b)
	for _, x := range []struct {
		path []uintptr
		size mem.Bytes
		site site.ID
		want *Bucket
	}{
		{path, 16, 0, a}, {path, 32, 0, nil}, {path, 16, 1, nil}, {path[:1], 16, 0, nil}, {[]uintptr{1, 2, 3}, 16, 0, nil}, {nil, 32, 0, nil}, {nil, 16, 0, nil},
	} {
		if got := table.Known(x.path, x.size, x.site); got != x.want {
			t.Errorf("path %v, %d bytes, site %d: bucket %p, want %p", x.path, x.size, x.site, got, x.want)
		}
	}
}

// TestHeld: what is held of a group goes to the buckets of its last frees, the newest first, in proportion to what
// their samples stand for; all of it does, also where no more samples are kept than stand for a part.
func TestHeld(t *testing.T) {
	const rate, small, large, larger = Rate(1 << 20), 512, 4 << 10, 1 << 20
	type frees []struct {
		stack uintptr
		size  mem.Bytes
		n     int
	}
	each := rate.Weight(small) * small // bytes for which a small sample stands
	for _, x := range []struct {
		what  string
		frees frees
		held  map[mem.Bytes]float64
		want  map[uintptr]float64 // bytes, by stack
	}{
		{"nothing freed", nil, map[mem.Bytes]float64{small: 1e6}, nil},
		{"nothing held", frees{{1, small, 3}}, nil, nil},
		{"the newest", frees{{1, small, 5}, {2, small, 2}}, map[mem.Bytes]float64{small: 2 * each}, map[uintptr]float64{2: 2 * each}},
		{"a part of one", frees{{1, small, 5}, {2, small, 2}}, map[mem.Bytes]float64{small: 2.5 * each}, map[uintptr]float64{2: 2 * each, 1: each / 2}},
		{"more than is known", frees{{1, small, 1}, {2, small, 3}}, map[mem.Bytes]float64{small: 400 * each}, map[uintptr]float64{1: 100 * each, 2: 300 * each}},
		{"more than is kept", frees{{1, small, 9}, {2, small, keptFrees}}, map[mem.Bytes]float64{small: 400 * each}, map[uintptr]float64{2: 400 * each}},
		{"groups apart", frees{{1, small, 4}, {2, 48, 4}}, map[mem.Bytes]float64{small: each, 48: 1e5}, map[uintptr]float64{1: each, 2: 1e5}},
		{"larger sizes are one group", frees{{1, large, 1}, {2, larger, 1}}, map[mem.Bytes]float64{0: 1e6}, map[uintptr]float64{2: 1e6}},
	} {
		table := NewTable(rate, func(string) bool { return false }, 1<<10)
		for _, f := range x.frees {
			for range f.n {
				table.Free(sample(table, []uintptr{f.stack}, f.size, 0))
			}
		}
		got := map[uintptr]float64{}
		for _, h := range table.Held(func(group mem.Bytes) int64 { return int64(math.Round(x.held[group])) }) {
			got[h.Stack[0]] += float64(h.Bytes)
			if want := float64(h.Bytes) / float64(h.Size); math.Abs(float64(h.Blocks)-want) > 1 {
				t.Errorf("%s: %d blocks of %d bytes in %d bytes", x.what, h.Blocks, h.Size, h.Bytes)
			}
		}
		if len(got) != len(x.want) {
			t.Errorf("%s: %v, want %v", x.what, got, x.want)
		}
		for stack, want := range x.want {
			if math.Abs(got[stack]-want) > 2 {
				t.Errorf("%s: stack %d has %.0f bytes, want %.0f", x.what, stack, got[stack], want)
			}
		}
	}
}
