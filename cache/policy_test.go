package cache

import (
	"container/heap"
	"container/list"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// TestHitRate compares the cache with LRU, and with Belady's rule, which knows the future and which no policy can
// beat where all entries are of one size. All three hold as many entries.
func TestHitRate(t *testing.T) {
	const keys, held = 20_000, 2_000
	requests := 80_000
	if testing.Short() {
		requests = 30_000
	}
	for _, tc := range []struct {
		name  string
		trace []int
		least float64 // above LRU
	}{
		{"zipf 0.7", zipf(0.7, keys, requests), -0.01},
		{"zipf 1.0", zipf(1.0, keys, requests), -0.01},
		{"zipf 1.0 with scans", withScans(zipf(1.0, keys, requests), keys, held), 0.03},
		{"zipf 0.7 with scans", withScans(zipf(0.7, keys, requests), keys, held), 0.03},
		{"loop over a third more than fits", loop(held*4/3, requests), 0.2},
		{"loop over less than fits", loop(held*3/4, requests), -0.001},
		{"the popular keys change", drift(zipf(1.0, keys, requests), held), -0.02},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, entries := ours(t, tc.trace, held)
			recent, best := lru(tc.trace, entries), belady(tc.trace, entries)
			t.Logf("%d entries: %.1f %% of %d found; LRU %.1f %%, the most there can be %.1f %%", entries, 100*got, len(tc.trace), 100*recent, 100*best)
			if got < recent+tc.least || got > best || best <= 0 {
				t.Errorf("%.3f of the reads found something; LRU %.3f, the most there can be %.3f", got, recent, best)
			}
		})
	}
}

// ours runs a trace through a cache of about so many entries, and returns the hit rate and the most entries there were.
func ours(t *testing.T, trace []int, entries int) (rate float64, most int) {
	c := newCache(t, Options{MaxBytes: int64(entries * 128), Shards: 1})

	value := make([]byte, 40)
	for _, k := range trace {
		key := fmt.Sprintf("%08d", k)
		if c.View(key, func([]byte) {}) {
			continue
		}
		if err := c.Set(key, value); err != nil {
			t.Fatal(err)
		}
		most = max(most, c.core.shards[0].index.used)
	}
	return c.Stats().HitRate(), most
}

// zipf draws keys of which the k-th most popular has the weight 1/k^s. (rand.Zipf needs s > 1.)
func zipf(s float64, keys, n int) []int {
	r := rand.New(rand.NewPCG(7, uint64(s*10)))
	upTo, total := make([]float64, keys), 0.0
	for k := range upTo {
		total += math.Pow(float64(k+1), -s)
		upTo[k] = total
	}
	trace := make([]int, n)
	for i := range trace {
		trace[i] = sort.SearchFloat64s(upTo, r.Float64()*total)
	}
	return trace
}

// withScans puts a run of keys that are never read again, as many as a cache holds, after every so many.
func withScans(trace []int, keys, held int) (out []int) {
	for i, k := range trace {
		out = append(out, k)
		if i%(4*held) == 0 {
			for range held {
				out = append(out, keys)
				keys++
			}
		}
	}
	return out
}

func loop(keys, n int) []int {
	trace := make([]int, n)
	for i := range trace {
		trace[i] = i % keys
	}
	return trace
}

// drift makes other keys popular, a few at a time.
func drift(trace []int, held int) []int {
	trace = slices.Clone(trace)
	for i := range trace {
		trace[i] += i / (10 * held) * (held / 8)
	}
	return trace
}

func lru(trace []int, entries int) float64 {
	order, at, hits := list.New(), map[int]*list.Element{}, 0
	for _, k := range trace {
		if e := at[k]; e != nil {
			hits++
			order.MoveToFront(e)
			continue
		}
		if order.Len() == entries {
			delete(at, order.Remove(order.Back()).(int))
		}
		at[k] = order.PushFront(k)
	}
	return float64(hits) / float64(len(trace))
}

// belady evicts what is read again latest, or does not take it in.
func belady(trace []int, entries int) float64 {
	next, seen := make([]int, len(trace)), map[int]int{}
	for i, k := range slices.Backward(trace) {
		if next[i] = math.MaxInt; seen[k] > 0 {
			next[i] = seen[k]
		}
		seen[k] = i
	}
	held, h, hits := map[int]int{}, &latest{}, 0 // key → its next read
	for i, k := range trace {
		if _, found := held[k]; found {
			hits++
		}
		held[k] = next[i]
		heap.Push(h, use{next[i], k})
		for len(held) > entries {
			if u := heap.Pop(h).(use); held[u.key] == u.next {
				delete(held, u.key)
			}
		}
	}
	return float64(hits) / float64(len(trace))
}

type use struct{ next, key int }

// latest is a heap with the latest use first. Uses that are over stay in it, and lose to all others.
type latest []use

func (h latest) Len() int           { return len(h) }
func (h latest) Less(i, j int) bool { return h[i].next > h[j].next }
func (h latest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *latest) Push(u any)        { *h = append(*h, u.(use)) }
func (h *latest) Pop() (u any) {
	last := len(*h) - 1
	u = (*h)[last]
	*h = (*h)[:last]
	return u
}
