package hakmem_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of Heaps: blocks that others free, blocks that outlive their Heap, and what a closed Heap
// refuses.

func TestHeap(t *testing.T) {
	quiet(t)
	noFronts(t)
	base := workout.ReadStats()
	g, h := hakmem.NewHeap(), hakmem.NewHeap()
	r := newRand(t, 5)
	var blocks []workout.Block
	for i := range uint64(6000) {
		size := uintptr(r.UintN(1 << r.UintN(17)))
		malloc := []func(uintptr) unsafe.Pointer{g.Malloc, h.Malloc, hakmem.Malloc}[i%3]
		blocks = append(blocks, workout.NewBlock(t, malloc, size, i))
	}
	workout.MustNotOverlap(t, blocks)
	frees := []func(unsafe.Pointer){h.Free, hakmem.Free, g.Free} // no matter which of them allocated the block
	for i, b := range blocks[:5000] {
		b.Check(t)
		frees[i%3](b.P)
	}
	blocks = blocks[5000:]
	g.Free(nil)

	g.Close()
	for _, b := range blocks { // blocks outlive their Heap
		b.Check(t)
	}
	for op, do := range map[string]func(){
		"Heap.Malloc":  func() { g.Malloc(10) },
		"Heap.Calloc":  func() { g.Calloc(10, 10) },
		"Heap.Realloc": func() { g.Realloc(blocks[0].P, 100_000) },
		"Heap.Free":    func() { g.Free(blocks[0].P) },
		"Heap.Trim":    g.Trim,
		"Heap.Close":   g.Close,
	} {
		mustBeClosed(t, op, "closed heap", do)
	}
	for _, size := range []uintptr{1, 2000, 100_000} {
		mustBeClosed(t, "Heap.Malloc", "closed heap", func() { g.Malloc(size) })
	}
	blocks[0].Check(t)

	// A Heap made after a Close gets the closed Heap's front, and must not share blocks with it.
	k := hakmem.NewHeap()
	for i := range uint64(1000) {
		blocks = append(blocks, workout.NewBlock(t, k.Malloc, uintptr(r.UintN(3000)), i))
	}
	workout.MustNotOverlap(t, blocks)
	mustBeClosed(t, "Heap.Malloc", "closed heap", func() { g.Malloc(10) })
	for i, b := range blocks {
		b.Check(t)
		if i%2 == 0 {
			k.Free(b.P)
		} else {
			h.Free(b.P)
		}
	}
	k.Close()
	h.Close()
	hakmem.Trim() // gives back the Ps' fronts
	if now := workout.ReadStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks || now.Fronts != 0 {
		t.Errorf("live %d bytes in %d blocks, %d fronts, before %d in %d, %d", now.Live, now.LiveBlocks, now.Fronts, base.Live, base.LiveBlocks, base.Fronts)
	}
}

// TestHeapSectionsAreNosplit: the functions of heap.go that use a front of their own, and are not
// inlined into the program, must be nosplit. The harvest of idle Heaps relies on it.
func TestHeapSectionsAreNosplit(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "heap.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	inlined, sections := map[string]bool{"popFront": true, "pushFront": true}, 0
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		uses, nosplit := false, false
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			or, ok := n.(*ast.BinaryExpr)
			uses = uses || ok && or.Op == token.OR // h.front | class << 3
			return true
		})
		if fn.Doc != nil {
			for _, c := range fn.Doc.List {
				nosplit = nosplit || c.Text == "//go:nosplit"
			}
		}
		if name := fn.Name.Name; uses && !inlined[name] {
			if sections++; !nosplit {
				t.Errorf("%s uses a front and is not nosplit", name)
			}
		}
	}
	if sections != 2 {
		t.Errorf("%d functions use a front, want heapMallocMid and heapFreeMid", sections)
	}
}

// TestHeapsWhileTrimmed has goroutines in the fast paths of Heaps, which stop for nothing, while Trim
// stops the world over and over: in whichever instruction they are then, no block may be lost or
// handed out twice.
func TestHeapsWhileTrimmed(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 3 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	}
	noFronts(t)
	base := workout.ReadStats()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for g, sizes := range [][2]uintptr{{32, 48}, {1000, 16}, {3000, 9000}, {40_000, 64}} {
		wg.Go(func() {
			h := hakmem.NewHeap()
			defer h.Close()
			for round := uint64(1); !stop.Load(); round++ {
				var held [60]*uint64
				n := 2 + int(round%50)
				for i := range held[:n] {
					held[i] = (*uint64)(h.Malloc(sizes[i%2]))
					*held[i] = round<<16 + uint64(i)<<8 + uint64(g)
				}
				for i, p := range held[:n] {
					if *p != round<<16+uint64(i)<<8+uint64(g) {
						t.Errorf("goroutine %d: block %d of %d bytes was changed to %#x", g, i, sizes[i%2], *p)
						return
					}
					h.Free(unsafe.Pointer(p))
				}
				for range 200 { // in one loop, so that the compiler might keep the front
					a, b := h.Malloc(sizes[0]), h.Malloc(sizes[1])
					if a == nil || a == b {
						t.Errorf("goroutine %d: blocks %p and %p", g, a, b)
						return
					}
					h.Free(a)
					h.Free(b)
				}
			}
		})
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		hakmem.Trim()
	}
	stop.Store(true)
	wg.Wait()
	if now := workout.ReadStats(); now.Live != base.Live || now.LateDoubleFrees != base.LateDoubleFrees {
		t.Errorf("live %d bytes, %d late double frees; before %d, %d", now.Live, now.LateDoubleFrees, base.Live, base.LateDoubleFrees)
	}
	if err := hakmem.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// TestManyHeaps opens and closes 1000 Heaps. Their fronts must be reused, so that memory is bounded
// by the number of Heaps open at once.
func TestManyHeaps(t *testing.T) {
	hakmem.NewHeap().Close()
	before := workout.ReadStats()
	for range 1000 {
		h := hakmem.NewHeap()
		h.Free(h.Malloc(64))
		h.Close()
	}
	if after := workout.ReadStats(); after.Metadata != before.Metadata || after.Fronts != before.Fronts {
		t.Errorf("1000 Heaps one after the other left %d bytes of metadata and %d fronts", after.Metadata-before.Metadata, after.Fronts-before.Fronts)
	}
}
