package engine

import (
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// TestMemoryLimits: beyond the hard limit there is no memory, and there is some again after a free.
// Near the soft limit no free memory is kept.
func TestMemoryLimits(t *testing.T) {
	for _, tt := range []struct {
		soft, hard uint64
		want       string
	}{
		{2, 1, "soft limit of 2 bytes above the hard limit of 1"},
		{0, 1 << 20, "hard limit of 1048576 bytes"},
	} {
		if _, _, err := SwapMemoryLimit(tt.soft, tt.hard); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("SetMemoryLimit(%d, %d) = %v, want it to say %q", tt.soft, tt.hard, err, tt.want)
		}
		if soft, hard := MemoryLimit(); soft != 0 || hard != 0 {
			t.Errorf("a refused limit is in force: %d, %d", soft, hard)
		}
	}
	for _, size := range []mem.Bytes{64, 900, 6000, 40 << 10, mebibyte, 5 * mebibyte} {
		withClock(t)
		hard := uint64(counted.Load()) + 64*mebibyte
		withLimit(t, 0, hard)
		var blocks []Block
		total := mem.Bytes(0)
		for {
			p := Malloc(0, size)
			if p == 0 {
				break
			}
			blocks = append(blocks, p)
			if region.huge && size > sizeclass.MaxMid {
				total += size.Up(pageSize) // which counts then
			} else {
				total += size
			}
			if total > 80*mebibyte {
				t.Fatalf("%d bytes: %d MiB in spite of a limit of 64", size, total>>20)
			}
		}
		if total < 50*mebibyte {
			t.Errorf("%d bytes: nil after %d MiB, the limit is 64", size, total>>20)
		}
		if n := counted.Load(); uint64(n) > hard+pageSize {
			t.Errorf("%d bytes: %d bytes are counted, the limit is %d", size, n, hard)
		}
		for range 1000 {
			if p := Malloc(0, size); p != 0 {
				blocks = append(blocks, p)
			}
		}
		// Freeing makes allocations work again: of this size and of others.
		freeBlocks(t, blocks)
		for _, other := range []mem.Bytes{size, 300, 20 << 10, 3 * mebibyte} {
			p := Malloc(0, other)
			if p == 0 {
				t.Errorf("%d bytes: all freed, and no %d bytes", size, other)
				continue
			}
			Free(0, p)
		}
		noLimit(t)
	}

	c := withClock(t)
	used, _ := use()
	withLimit(t, uint64(counted.Load())+64*mebibyte, 0)
	blocks := fillBytes(t, 80*mebibyte, 256<<10)
	c.Advance(0) // the tick that was asked for
	freeBlocks(t, blocks)
	c.Advance(2 * tick())
	if now, dirty := use(); now+dirty-used > 60*16 {
		t.Errorf("above the soft limit, all freed: %d pages left after two ticks, most of a peak of 1280", now+dirty-used)
	}
}

// TestRefusedOnce: where a limit refuses an allocation because no page is dirty, the allocation
// does not ask every superslab that has free pages.
func TestRefusedOnce(t *testing.T) {
	withClock(t)
	const supers, size = 40, 64
	blocks := fillBytes(t, supers*superSize, size)
	var rest, kept []Block
	for _, p := range blocks {
		if p.page().inChunk() == 7 {
			rest = append(rest, p)
		} else {
			kept = append(kept, p)
		}
	}
	freeBlocks(t, rest)
	Trim()
	used, dirty := use()
	if dirty != 0 {
		t.Fatalf("%d dirty pages after Trim", dirty)
	}
	withLimit(t, 0, uint64(used)<<pageShift)
	for Malloc(0, 200) != 0 { // of the memory that there is
	}
	was := limitHit.Load()
	if p := Malloc(0, 200); p != 0 {
		t.Fatalf("a block at %#x beyond the limit", p)
	}
	if n := limitHit.Load() - was; n == 0 || n > 4 { // with the stage fresh, and both again after a reclaim
		t.Errorf("one failed allocation was refused %d times; %d superslabs have a free page", n, supers)
	}
	freeBlocks(t, kept)
}
