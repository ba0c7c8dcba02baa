package sizeclass

import (
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
)

// afresh undoes definitions when the test ends.
func afresh(t *testing.T) {
	classes, mid := Classes, Mid
	t.Cleanup(func() { Classes, Mid = classes, mid })
}

// TestDefine: sizes go to the class that was defined for them, whatever the order, and to no other one.
func TestDefine(t *testing.T) {
	for _, sizes := range [][]mem.Bytes{
		{4224}, {2176}, {8320}, {16512}, {32640},
		{4224, 8320}, {8320, 4224},
		{4224, 4352}, {4352, 4224}, {4224, 4480}, {4480, 4224}, // in one eighth
		{17408, 16512}, {16512, 18304}, {20352, 20096},
	} {
		t.Run("", func(t *testing.T) {
			afresh(t)
			before := Mid
			for i, size := range sizes {
				if n := Spare(); n != NumSpare-i {
					t.Fatalf("%d spare classes after %d definitions", n, i)
				}
				c, err := Define(size)
				if err != nil || c <= NumFixed || c > Num || c.Bytes() != size || Of(size) != c {
					t.Fatalf("Define(%d) = %d of %d bytes, %v", size, c, c.Bytes(), err)
				}
				if again, err := Define(size); again != c || err != nil {
					t.Fatalf("Define(%d) again = %d, %v; want %d", size, again, err, c)
				}
				checkSizes(t)
				checkIndex(t, c, &Classes[c])
			}
			for i := range Mid { // an entry that changed belongs to a size below a new class, in its eighth
				if c := Mid[i]; c != before[i] && (c <= NumFixed || c.Bytes() > before[i].Bytes()) {
					t.Errorf("sizes up to %d went from class %d to %d", (i+1)*Step, before[i], c)
				}
			}
		})
	}
}

// TestNext: Next visits every class once, in the order of sizes, and Aligned finds the smallest.
func TestNext(t *testing.T) {
	afresh(t)
	for _, size := range []mem.Bytes{0, 4224, 16512} {
		if size > 0 {
			if _, err := Define(size); err != nil {
				t.Fatal(err)
			}
		}
		n, last := 0, mem.Bytes(0)
		for c := ID(0).Next(); c != 0; c = c.Next() {
			if c.Bytes() <= last {
				t.Fatalf("class %d of %d bytes comes after one of %d", c, c.Bytes(), last)
			}
			n, last = n+1, c.Bytes()
		}
		if n != Num-Spare() || last != MaxMid {
			t.Errorf("%d classes up to %d bytes; %d are defined", n, last, Num-Spare())
		}
	}
	for _, test := range []struct {
		size  mem.Bytes
		align mem.Align
		want  mem.Bytes
	}{
		{4112, 1, 4224}, {4112, 128, 4224}, {4112, 256, 4608}, {4112, 1024, 5120}, {4112, 4096, 8192},
		{16400, 128, 16512}, {16400, 2048, 18432}, {1, 16, 16}, {24, 64, 64}, {1, MaxMid, MaxMid}, {100, PageSize, 0},
	} {
		if c := Aligned(test.size, test.align); c.Bytes() != test.want && (c != 0 || test.want != 0) {
			t.Errorf("%d bytes, aligned to %d: %d bytes, want %d", test.size, test.align, c.Bytes(), test.want)
		}
	}
}

// TestDefineRefuses: sizes that cannot be, and one more than there is room for, change nothing.
func TestDefineRefuses(t *testing.T) {
	afresh(t)
	for _, size := range []mem.Bytes{0, 1, 128, 1024, 1152, 2048, 2304, 4100, 4223, 4096, 4608, 32 << 10, 33 << 10, ^mem.Bytes(127)} {
		if c, err := Define(size); err == nil || Check(size) == nil {
			t.Errorf("Define(%d) = %d, Check: %v; want errors", size, c, Check(size))
		}
	}
	for size := mem.Bytes(Step); size < MaxMid; size += Step {
		_, is := Classes[Of(size)], mem.Bytes(Classes[Of(size)].Size) == size
		if err := Check(size); (err == nil) != (size > MaxTiny && !is) {
			t.Errorf("Check(%d) = %v", size, err)
		}
	}
	for _, size := range []mem.Bytes{2176, 2432} {
		if _, err := Define(size); err != nil {
			t.Fatal(err)
		}
	}
	classes, mid := Classes, Mid
	if _, err := Define(2688); err == nil || !strings.Contains(err.Error(), "2688") || Classes != classes || Mid != mid {
		t.Errorf("a third class: %v", err)
	}
}

// TestSpareSlabs: the slabs of every class that can be defined hold 16 to 64 blocks and leave less than a
// 16th unused, and no order leaves less.
func TestSpareSlabs(t *testing.T) {
	share := func(size mem.Bytes, order uint32) (float64, uint32) {
		blocks := uint32(PageSize<<order) / uint32(size)
		return float64(uint32(PageSize<<order)-blocks*uint32(size)) / float64(uint32(PageSize<<order)), blocks
	}
	for size := mem.Bytes(MaxTiny + Step); size < MaxMid; size += Step {
		if Check(size) != nil {
			continue
		}
		k := makeClass(size, bestOrder(size))
		rest, blocks := share(size, k.Order)
		if k.Order > MaxOrder || k.Blocks != blocks || blocks < 16 || blocks > 64 || k.Words != 1 || rest >= 1.0/16 {
			t.Fatalf("%d bytes: %+v, %.3f unused", size, k, rest)
		}
		if want := float64(size) / (1 - rest); SlabShare(size) < want*0.999 || SlabShare(size) > want*1.001 {
			t.Errorf("%d bytes: a block's share is %.1f bytes, want %.1f", size, SlabShare(size), want)
		}
		for order := uint32(0); order <= MaxOrder; order++ {
			if other, n := share(size, order); n >= 16 && n <= 64 && (other < rest || other == rest && order < k.Order) {
				t.Errorf("%d bytes: order %d leaves %.4f unused, order %d %.4f", size, k.Order, rest, order, other)
			}
		}
		if size%1024 == Step { // at every offset, for some of them
			checkIndex(t, 0, &k)
		}
	}
	if n := SlabShare(4608); n != float64(4*PageSize)/56 {
		t.Errorf("a block of 4608 bytes takes %.1f", n)
	}
}
