package offheap_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/offheap"
)

type refNode struct {
	next offheap.Ref[refNode]
	key  uint64
}

func TestRef(t *testing.T) {
	hakmemtest.NoLeaks(t)
	r := offheap.NewRef[refNode]()
	if r == 0 || *r.Get() != (refNode{}) || unsafe.Sizeof(r) != 8 {
		t.Errorf("%#x: %+v", r, *r.Get())
	}
	r.Get().key = 7
	r.Get().next = r // a ring
	copied := r.Get().next
	if p, ok := copied.TryGet(); !ok || p != r.Get() || p.key != 7 {
		t.Errorf("%p, %v", p, ok)
	}
	r.Free()
	var zero offheap.Ref[refNode]
	zero.Free() // as Free(nil)
	for name, r := range map[string]offheap.Ref[refNode]{"freed": copied, "next": copied + 1<<32, "zero": zero, "none": 1<<32 - 1, "none of the first leaf": 5 << 32, "far": ^offheap.Ref[refNode](0), "small": 5} {
		if p, ok := r.TryGet(); ok || p != nil {
			t.Errorf("%s: %p, %v", name, p, ok)
		}
	}
	wantMisuse(t, "Ref.Get", "stale ref", func() { copied.Get() })
	wantMisuse(t, "Ref.Free", "stale ref", func() { copied.Free() })
	wantMisuse(t, "Ref.Free", "stale ref", func() { (copied + 1<<32).Free() }) // the next one, which nobody has
	wantMisuse(t, "Ref.Get", "nil ref", func() { zero.Get() })
	mustPanicNaming(t, "a T with pointers", func() { offheap.NewRef[struct{ Next *int }]() }, "Next", "ptr")
	offheap.NewRef[struct{}]().Free()
}

// TestRefAfterReuse: a Ref stays stale when its word and its block are another's.
func TestRefAfterReuse(t *testing.T) {
	old := offheap.NewRef[refNode]()
	was := old.Get()
	old.Free()
	same, words := 0, 0
	for range 1000 {
		r := offheap.NewRef[refNode]()
		if r.Get() == was {
			same++
		}
		if offheap.SameWord(r, old) {
			words++
		}
		if r == old {
			t.Fatal("the same Ref again")
		}
		if _, ok := old.TryGet(); ok {
			t.Fatal("a stale Ref is valid again")
		}
		wantMisuse(t, "Ref.Free", "stale ref", old.Free)
		r.Free()
	}
	if words == 0 {
		t.Error("the word was not used again: the test shows nothing")
	}
	t.Logf("the word was used again %d times, the block %d times (hardened and guarded blocks wait)", words, same)
}

// TestRefLastGeneration: a word that has had all generations is not used again.
func TestRefLastGeneration(t *testing.T) {
	r := offheap.Age(offheap.NewRef[int](), offheap.LastGeneration-1)
	*r.Get() = 5
	r.Free()
	last := offheap.NewRef[int]()
	for !offheap.SameWord(r, last) { // of another shard
		defer last.Free()
		last = offheap.NewRef[int]()
	}
	if offheap.Generation(last) != offheap.LastGeneration || *last.Get() != 0 {
		t.Errorf("generation %d", offheap.Generation(last))
	}
	last.Free()
	wantMisuse(t, "Ref.Get", "stale ref", func() { last.Get() })
	wantMisuse(t, "Ref.Free", "stale ref", last.Free)
	words, _ := offheap.RefWords()
	for range words {
		next := offheap.NewRef[int]()
		if offheap.SameWord(next, last) {
			t.Fatal("the word is used again")
		}
		defer next.Free()
	}
	for i := range 3 { // as numbers that a program has made up
		if _, ok := (offheap.Ref[int](i)<<32 | last&(1<<32-1)).TryGet(); ok {
			t.Errorf("generation %d of the word is valid", i)
		}
	}
}

// TestRefTableShrinks: when Refs are freed the table gives up what it no longer needs, and a stale Ref
// stays stale when the table grows again.
func TestRefTableShrinks(t *testing.T) {
	_, shards := offheap.RefWords()
	n := 100_000
	if testing.Short() {
		n = 20_000
	}
	all := make([]offheap.Ref[int], n)
	for round := range 2 {
		stale := append([]offheap.Ref[int](nil), all...)
		for i := range all {
			all[i] = offheap.NewRef[int]()
			*all[i].Get() = i
		}
		for i := range stale {
			if _, ok := stale[i].TryGet(); ok {
				t.Fatalf("round %d: Ref %d of the round before is valid", round, i)
			}
		}
		rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
		for i := range all {
			if i%2 == 0 {
				*all[i].Get() = i
			}
			all[i].Free()
		}
		// A chunk with a word that another test has aged stays; else three chunks with room at most.
		if words, _ := offheap.RefWords(); words > (3*shards+2)*1024 {
			t.Errorf("round %d: %d words are left, in %d shards", round, words, shards)
		}
	}
}

// refModel makes and frees Refs at random and compares them with a Go map.
func refModel(string) error {
	r := rand.New(rand.NewPCG(1, 2))
	live, stale := map[offheap.Ref[refNode]]uint64{}, map[offheap.Ref[refNode]]bool{}
	for i := range uint64(4000) {
		if len(live) < 100 || r.IntN(2) == 0 {
			n := offheap.NewRef[refNode]()
			if stale[n] || live[n] != 0 {
				return fmt.Errorf("%#x again", n)
			}
			n.Get().key = i
			live[n] = i
		}
		for n, key := range live {
			if got := n.Get().key; got != key {
				return fmt.Errorf("%#x has %d, want %d", n, got, key)
			}
			if r.IntN(3) == 0 {
				n.Free()
				delete(live, n)
				stale[n] = true
			}
			break
		}
		for n := range stale {
			if _, ok := n.TryGet(); ok {
				return fmt.Errorf("%#x was freed", n)
			}
			break
		}
	}
	for n := range live {
		n.Free()
	}
	if n := liveBlocks(); n != 0 {
		return fmt.Errorf("%d live blocks", n)
	}
	return nil
}

var _ = testkit.Child("ref model", refModel)

func TestRefModel(t *testing.T) { inModes(t, "ref model") }

// TestRefGoroutines: any goroutine may make, use and free Refs. Of those that free one Ref one succeeds,
// and no Ref leads to the T of another.
func TestRefGoroutines(t *testing.T) {
	hakmemtest.NoLeaks(t)
	const goroutines, n = 4, 2000
	made := make([][]offheap.Ref[refNode], goroutines)
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range n {
				r := offheap.NewRef[refNode]()
				r.Get().key = uint64(g*n + i)
				made[g] = append(made[g], r)
				if i%2 == 1 { // others get the word
					made[g][i-1].Free()
					made[g][i-1] = offheap.NewRef[refNode]()
					made[g][i-1].Get().key = uint64(g*n + i - 1)
				}
			}
		})
	}
	all.Wait()
	var freed, refused atomic.Int64
	for g := range goroutines {
		all.Go(func() {
			for i := range n {
				r := made[(g+i)%goroutines][i]
				if g == 0 && i%7 == 0 { // next to a free, this one is decided by the table alone
					r.TryGet()
				}
				m, instead := testkit.PanicAs[*hakmem.MisuseError](r.Free)
				switch {
				case m == nil:
					freed.Add(1)
				case m.Kind == "stale ref":
					refused.Add(1)
				default:
					t.Errorf("%v %s", m, instead)
				}
			}
			for i := range n {
				if g == i%goroutines {
					continue
				}
				m, _ := testkit.PanicAs[*hakmem.MisuseError](made[g][i].Free)
				if m == nil {
					freed.Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	all.Wait()
	if freed.Load() != goroutines*n || refused.Load() == 0 {
		t.Errorf("%d of %d freed, %d refused", freed.Load(), goroutines*n, refused.Load())
	}
}

var refSink uint64

func BenchmarkRef(b *testing.B) {
	for _, n := range []int{1e3, 1e6} {
		all := make([]offheap.Ref[refNode], n)
		pointers := make([]*refNode, n)
		for i := range all {
			all[i] = offheap.NewRef[refNode]()
			pointers[i] = all[i].Get()
		}
		order := rand.New(rand.NewPCG(1, 1)).Perm(n)
		b.Run(fmt.Sprintf("Get/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; i < b.N; {
				for _, at := range order[:min(n, b.N-i)] {
					refSink += all[at].Get().key
				}
				i += min(n, b.N-i)
			}
		})
		b.Run(fmt.Sprintf("pointer/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; i < b.N; {
				for _, at := range order[:min(n, b.N-i)] {
					refSink += pointers[at].key
				}
				i += min(n, b.N-i)
			}
		})
		for _, r := range all {
			r.Free()
		}
	}
	b.Run("NewFree", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				offheap.NewRef[refNode]().Free()
			}
		})
	})
}
