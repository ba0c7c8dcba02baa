package engine

import (
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

func TestPopsAscend(t *testing.T) {
	f := heapFront(t)
	c := sizeclass.Of(48)
	var got []Block
	for range firstBatch {
		got = append(got, Malloc(f, 48))
	}
	if !slices.IsSorted(got) {
		t.Errorf("a refilled magazine pops %#x", got)
	}
	for _, p := range got {
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatalf("%+v", bad)
		}
	}
	if n := f.held(c); n != firstBatch {
		t.Errorf("the magazine holds %d blocks, want %d", n, firstBatch)
	}
}

// isFree reports whether the bit of the block at p is set, by division.
func isFree(p Block, c sizeclass.ID) bool {
	s := owner(p)
	j := p.addr().From(s.addr()) / c.Bytes()
	return atomic.LoadUint64(s.bits(uint32(j/64)))>>(j%64)&1 != 0
}

// TestFlushAndCarve takes blocks of several slabs, gives them back in random order, and looks at
// every bit. Then it takes the blocks in the gaps, and checks that nothing is handed out twice and
// that pops ascend within a carve.
func TestFlushAndCarve(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, size := range []mem.Bytes{16, 48, 64, 80, 320, 1024, 1152, 5000, 32 << 10} {
		c := sizeclass.Of(size)
		k := &sizeclass.Classes[c]
		f := front(t)
		n := min(3*int(k.Blocks)+7, 3000)
		all := make([]Block, n)
		for i := range all {
			if all[i] = Malloc(f, size); isFree(all[i], c) {
				t.Fatalf("%d B: the bit of a block in use is set", size)
			}
		}
		r.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
		back, kept := all[:n*2/3], all[n*2/3:]
		for _, p := range back {
			setLive(p, c, 0)
		}
		for batch := range slices.Chunk(back, maxFlush) {
			if late := lateFlush(batch, c); late != 0 {
				t.Fatalf("%d B: flush took %#x for a late double free", size, late)
			}
		}
		for _, p := range back {
			if !isFree(p, c) {
				t.Fatalf("%d B: the bit of the flushed block %#x is clear", size, p)
			}
		}
		for _, p := range kept {
			if isFree(p, c) {
				t.Fatalf("%d B: a flush set the bit of %#x, which is in use", size, p)
			}
		}
		before := lateFrees.Load()
		if checkLive {
			for batch := range slices.Chunk(back, maxFlush) { // a second time
				if lateFlush(batch, c) == 0 {
					t.Errorf("%d B: a flush of free blocks was silent", size)
				}
			}
			if got := lateFrees.Load() - before; got != uint64(len(back)) {
				t.Errorf("%d B: %d late double frees counted, want %d", size, got, len(back))
			}
		}
		held := map[Block]bool{}
		for _, p := range kept {
			held[p] = true
		}
		s := owner(back[0])
		for range n {
			p := Malloc(f, size)
			if held[p] || isFree(p, c) || p.addr().From(owner(p).addr())%c.Bytes() != 0 {
				t.Fatalf("%d B: %#x was handed out while it is not free, or is no block", size, p)
			}
			held[p] = true
			if q := Block(*word(*f.top(c))); q != 0 && q < p && owner(q) == owner(p) && s == owner(p) {
				t.Fatalf("%d B: %#x is to follow %#x", size, q, p)
			}
			s = owner(p)
		}
		for p := range held {
			if bad := Free(f, p); bad.Kind != OK {
				t.Fatalf("%d B: %+v", size, bad)
			}
		}
		CloseHeapFront(f)
	}
}

// TestCarveDropsLive: a late double free put live blocks into their slab. A carve drops each block
// that is live, whether its word is one run or has gaps.
func TestCarveDropsLive(t *testing.T) {
	if !checkLive {
		t.Skip("skipped: hakmem_nolive does not look at the live state")
	}
	for _, size := range []mem.Bytes{64, 2048} {
		for _, gaps := range []bool{false, true} {
			f := front(t)
			c := sizeclass.Of(size)
			s := acquireSlab(commonList(c))
			var live []Block
			for j := range sizeclass.Classes[c].Blocks {
				if p := s.block(c, blockIndex(j)); isFree(p, c) && j%5 == 3 {
					setLive(p, c, liveState(c))
					live = append(live, p)
				} else if gaps && j%7 == 0 {
					atomic.AndUint64(s.bits(j/64), ^(uint64(1) << (j % 64)))
				}
			}
			entered(func() { f.makeMagazine(c) })
			before := lateFrees.Load()
			n := 0
			entered(func() { n = f.carve(c, s, 16) })
			if n >= 16 || n != int(f.held(c)) || lateFrees.Load()-before != uint64(16-n) {
				t.Errorf("%d B: carved %d of 16 blocks, %d late frees", size, n, lateFrees.Load()-before)
			}
			last := Block(0)
			for p := f.pop(c); p != 0; p = f.pop(c) {
				if slices.Contains(live, p) || p <= last {
					t.Errorf("%d B: carve took %#x after %#x", size, p, last)
				}
				last = p
			}
			forgetFindings()
			for _, p := range live {
				setLive(p, c, 0)
			}
			for j := uint32(0); j < sizeclass.Classes[c].Words; j++ {
				atomic.StoreUint64(s.bits(j), fullWord(&sizeclass.Classes[c], j))
			}
			retire(s)
			CloseHeapFront(f)
		}
	}
}

// TestLateDoubleFree builds by hand what two overlapping frees leave behind: two copies of a block
// in magazines, which leave them in either order.
func TestLateDoubleFree(t *testing.T) {
	if !checkLive {
		t.Skip("skipped: hakmem_nolive does not look at the live state")
	}
	c := sizeclass.Of(64)
	copies := func(t *testing.T) (p Block) {
		p = Malloc(0, 64)
		setLive(p, c, 0) // freed: this copy is the first, the caller makes the second
		return p
	}
	late := func(t *testing.T, found, p Block, before uint64) {
		t.Helper()
		if found != p || lateFrees.Load() != before+1 {
			t.Errorf("found %#x (%d late frees), want %#x", found, lateFrees.Load()-before, p)
		}
	}
	t.Run("both flushed", func(t *testing.T) {
		p, before := copies(t), lateFrees.Load()
		if x := lateFlush([]Block{p}, c); x != 0 {
			t.Fatalf("the first copy was refused: %#x", x)
		}
		late(t, lateFlush([]Block{p}, c), p, before)
	})
	t.Run("both in one flush", func(t *testing.T) {
		p, before := copies(t), lateFrees.Load()
		late(t, lateFlush([]Block{p, p}, c), p, before)
	})
	t.Run("one handed out again, one flushed", func(t *testing.T) {
		p, before := copies(t), lateFrees.Load()
		setLive(p, c, liveState(c))
		late(t, lateFlush([]Block{p}, c), p, before)
		if bad := Free(0, p); bad.Kind != OK {
			t.Errorf("the holder's block is gone: %+v", bad)
		}
	})
	t.Run("one flushed, one handed out: found at the carve", func(t *testing.T) {
		f := heapFront(t)
		p := Malloc(f, 64)
		s := *f.lease(c)
		setLive(p, c, 0)
		flush([]Block{p}, c)
		setLive(p, c, liveState(c))
		before := lateFrees.Load()
		forgetFindings()
		var all []Block
		for *f.lease(c) == s && len(all) < int(sizeclass.Classes[c].Blocks)*2 {
			q := Malloc(f, 64)
			if q == p {
				t.Fatal("a live block was handed out again")
			}
			all = append(all, q)
		}
		late(t, Block(TakeFinding().Addr), p, before)
		for _, q := range append(all, p) {
			if bad := Free(f, q); bad.Kind != OK {
				t.Fatalf("%+v", bad)
			}
		}
	})
}

// TestFlushOutlived: the second copy of a block comes back when its slab's pages serve another
// class.
func TestFlushOutlived(t *testing.T) {
	withClock(t)
	for _, size := range []mem.Bytes{64, 4096} {
		c := sizeclass.Of(size)
		s := acquireSlab(commonList(sizeclass.Of(2 * size)))
		before := lateFrees.Load()
		if lateFlush([]Block{s.block(c, 0), s.block(c, 1)}, c) == 0 || lateFrees.Load() != before+2 {
			t.Errorf("%d B: %d late double frees counted, want 2", size, lateFrees.Load()-before)
		}
		retire(s)
	}
}

// TestFlushAfterGiveBack: the second copy of a block comes back when the pages of its slab no
// longer belong to a slab.
func TestFlushAfterGiveBack(t *testing.T) {
	for _, size := range []mem.Bytes{64, 4096} {
		withClock(t)
		c := sizeclass.Of(size)
		p := Malloc(0, size)
		if bad := Free(0, p); bad.Kind != OK {
			t.Fatalf("%+v", bad)
		}
		Trim()
		if kind := meta(p.page()).kind; kind != kindSlabFreed {
			t.Fatalf("%d B: kind %d after Trim: its slab was not given back", size, kind)
		}
		before := lateFrees.Load()
		if late := lateFlush([]Block{p}, c); late != p || lateFrees.Load() != before+1 {
			t.Errorf("%d B: found %#x, want %#x; %d counted", size, late, p, lateFrees.Load()-before)
		}
		mustHold(t)
	}
}

// TestWordsAtOnce: two goroutines free the blocks of one slab, one by one and in turns, so that
// both set bits of the same words, while a third carves. No block is lost, and none is handed out
// twice.
func TestWordsAtOnce(t *testing.T) {
	const size, rounds = 16, 100
	c := sizeclass.Of(size)
	k := &sizeclass.Classes[c]
	f := heapFront(t)
	Free(f, Malloc(f, size)) // makes the magazine
	emptyMagazine(f, c)
	for range rounds {
		s := acquireSlab(commonList(c)) // and with it the right to take its blocks
		ours := make([]bool, k.Blocks)
		for w := range k.Words {
			for v := atomic.SwapUint64(s.bits(w), 0); v != 0; v &= v - 1 {
				ours[w*64+uint32(bits.TrailingZeros64(v))] = true
			}
		}
		var ready, ended atomic.Int32
		for half := range uint32(2) {
			go func() {
				for ready.Add(1); ready.Load() < 2; {
					runtime.Gosched()
				}
				for j := half; j < k.Blocks; j += 2 {
					if ours[j] {
						flush([]Block{s.block(c, blockIndex(j))}, c)
					}
				}
				ended.Add(1)
			}()
		}
		taken := make([]bool, k.Blocks)
		for i := 0; ended.Load() < 2; i++ {
			entered(func() { f.carve(c, s, 3) })
			for p := f.pop(c); p != 0; p = f.pop(c) {
				j := p.addr().From(s.addr()) / size
				if taken[j] || !ours[j] {
					t.Fatalf("block %d of the slab was carved twice", j)
				}
				taken[j] = true
			}
			if i%64 == 0 { // for machines with one processor
				runtime.Gosched()
			}
		}
		for j, was := range ours {
			p := s.block(c, blockIndex(j))
			if has := isFree(p, c); has == taken[j] && was || has && !was {
				t.Fatalf("block %d: the slab has it: %t, carved: %t, before: %t", j, has, taken[j], was)
			}
			if taken[j] {
				flush([]Block{p}, c)
			}
		}
		retire(s)
	}
}

// TestMagazineGrows: a magazine doubles its room, up to the budget, when more blocks than it holds
// are allocated and freed in turns. Freeing alone does not make it grow.
func TestMagazineGrows(t *testing.T) {
	withRoom(t)
	for _, test := range []struct {
		settings map[string]string
		size     mem.Bytes
		want     []uint16 // the room after each turn
	}{
		{nil, 16, []uint16{254, 508, 1016, 1023, 1023}},
		{nil, 512, []uint16{254, 508, 1016, 1023, 1023}},
		{nil, 1024, []uint16{128, 256, 512, 512}}, // from 64 KiB to half a MiB
		{nil, 2048, []uint16{127, 127}},           // from 64
		{nil, 16 << 10, []uint16{16, 32, 32}},     // from 8
		{nil, 32 << 10, []uint16{8, 16, 16}},      // from 4
		{map[string]string{"HAKMEM_MAG_GROW_BYTES": "0"}, 16, []uint16{127, 127}},
		{map[string]string{"HAKMEM_MAG_GROW_BYTES": "6400"}, 64, []uint16{127, 127}},
		{map[string]string{"HAKMEM_MAG_BLOCKS": "200"}, 16, []uint16{200, 200}},
		{map[string]string{"HAKMEM_MODE": "minimal"}, 16, []uint16{16, 16}},
	} {
		withPolicy(t, test.settings)
		f, c := front(t), sizeclass.Of(test.size)
		for turn, want := range test.want {
			var all []Block
			seen := map[Block]bool{}
			for range 3 * 1023 {
				p := Malloc(f, test.size)
				if p == 0 || seen[p] {
					t.Fatalf("%d B, turn %d: %#x was handed out twice", test.size, turn, p)
				}
				seen[p] = true
				all = append(all, p)
			}
			for _, p := range all {
				if bad := Free(f, p); bad.Kind != OK {
					t.Fatalf("%d B: %+v", test.size, bad)
				}
			}
			if n := f.head().cap[c]; n != want {
				t.Errorf("%d B with %v: room for %d blocks after turn %d, want %d", test.size, test.settings, n, turn, want)
			}
		}
		// The magazine holds freed blocks of the class, each once.
		held := map[Block]bool{}
		for slot := f.sentinel(c) + 8; slot <= *f.top(c); slot += 8 {
			if p := Block(*word(slot)); held[p] || isLive(p, c) || meta(p.page()).class.Bytes() != c.Bytes() {
				t.Fatalf("%d B: %#x in the magazine", test.size, p)
			} else {
				held[p] = true
			}
		}
		if bad := CloseHeapFront(f); bad.Kind != OK {
			t.Errorf("%d B: %+v", test.size, bad)
		}
	}
	withPolicy(t, nil)
	maker, other := heapFront(t), heapFront(t)
	var all []Block
	for range 2000 {
		all = append(all, Malloc(maker, 64))
	}
	for _, p := range all {
		if bad := Free(other, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
	if n := other.head().cap[sizeclass.Of(64)]; n != firstCap {
		t.Errorf("freeing alone made room for %d blocks, want %d", n, firstCap)
	}
}
