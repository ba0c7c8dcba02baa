package sizeclass

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
)

// TestEverySize checks each size's class, and what the package promises of the fixed ones.
func TestEverySize(t *testing.T) {
	checkSizes(t)
	for size := mem.Bytes(129); size <= MaxMid; size++ {
		if got := Of(size).Bytes(); (got-size)*8 > size {
			t.Fatalf("size %d: block of %d bytes wastes more than 12.5 %%", size, got)
		}
	}
	if Classes[NumFixed].Size != MaxMid || Classes[NumTiny].Size != MaxTiny {
		t.Fatalf("last classes are %d and %d bytes", Classes[NumTiny].Size, Classes[NumFixed].Size)
	}
}

// checkSizes checks each size's class against the definition: it is the smallest class that holds the
// size.
func checkSizes(t *testing.T) {
	t.Helper()
	for size := mem.Bytes(0); size <= MaxMid; size++ {
		best := ID(NumFixed)
		for c := ID(1); c <= Num; c++ {
			if n := c.Bytes(); n >= max(size, 1) && n < best.Bytes() {
				best = c
			}
		}
		if c := Of(size); c != best {
			t.Fatalf("size %d: class %d of %d bytes; the smallest that fits is %d of %d", size, c, c.Bytes(), best, best.Bytes())
		}
	}
}

// TestIndexEveryOffset checks the reciprocal at every offset in a slab of every class.
func TestIndexEveryOffset(t *testing.T) {
	for c := ID(0).Next(); c != 0; c = c.Next() {
		checkIndex(t, c, &Classes[c])
	}
}

func checkIndex(t *testing.T, c ID, k *Class) {
	t.Helper()
	for off := mem.Bytes(0); off < PageSize<<k.Order; off++ {
		i, start := k.Index(off)
		if mem.Bytes(i) != off/mem.Bytes(k.Size) || start != (off%mem.Bytes(k.Size) == 0) {
			t.Fatalf("class %d (%d B): Index(%d) = %d, %v", c, k.Size, off, i, start)
		}
		if short := uint64(off) * k.Short() >> ShortBits; uint32(short) != i {
			t.Fatalf("class %d (%d B): offset %d is in block %d, Short gives %d", c, k.Size, off, i, short)
		}
	}
}

func TestSlabs(t *testing.T) {
	for c := 1; c <= NumFixed; c++ {
		k := &Classes[c]
		if c > NumTiny && k.Blocks > 64 || k.Blocks < leastBlocks || c <= NumTiny && k.Order != 0 {
			t.Errorf("class %d (%d B): %d blocks in %d pages", c, k.Size, k.Blocks, 1<<k.Order)
		}
		if waste := uint32(PageSize<<k.Order) - k.Blocks*k.Size; waste*16 > PageSize<<k.Order {
			t.Errorf("class %d (%d B): slab of %d pages wastes %d bytes", c, k.Size, 1<<k.Order, waste)
		}
	}
}

func TestLargeSize(t *testing.T) {
	for _, tt := range []struct{ size, want mem.Bytes }{
		{MaxMid + 1, 36 << 10}, {36 << 10, 36 << 10}, {64 << 10, 64 << 10}, {64<<10 + 1, 72 << 10},
		{2 << 20, 2 << 20}, {2<<20 + 1, 2<<20 + 256<<10}, {3 << 20, 3 << 20},
	} {
		if got, ok := LargeSize(tt.size); got != tt.want || !ok {
			t.Errorf("LargeSize(%d) = %d, %v; want %d", tt.size, got, ok, tt.want)
		}
	}
	if n, ok := LargeSize(^mem.Bytes(0)); ok {
		t.Errorf("LargeSize(max) = %d, true; want overflow", n)
	}
}

// TestLargeOf checks the class of a large block against LargeSize, for sizes in steps and around
// every class boundary.
func TestLargeOf(t *testing.T) {
	check := func(size mem.Bytes) {
		c := LargeOf(size)
		want, _ := LargeSize(size)
		if c <= Num || c > NumAll || LargeBytes(c) != want {
			t.Fatalf("size %d has class %d of %d bytes, want %d bytes", size, c, LargeBytes(c), want)
		}
	}
	for size := mem.Bytes(MaxMid + 1); size <= MaxLarge; size += 509 {
		check(size)
	}
	for c := ID(Num + 1); c <= NumAll; c++ {
		check(LargeBytes(c))
		check(LargeBytes(c) - 1)
		if c < NumAll {
			check(LargeBytes(c) + 1)
		}
	}
}
