package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// residentBy is ReadResident's last result. It skips a test where the system does not say.
func residentBy(t *testing.T) ResidentTotals {
	t.Helper()
	_, resident, by := ReadResident()
	if by == (ResidentTotals{}) {
		t.Skip("skipped: the system does not say what is resident")
	}
	if sum := by.Slabs + by.LargeLive + by.LargeCached + by.Free + by.Guarded + by.Tables; sum != resident {
		t.Errorf("%d bytes are resident, and together the parts are %d", resident, sum)
	}
	return by
}

// TestResidentBy follows the memory of a block of each kind from one use to the next: live, in a cache, free,
// returned.
func TestResidentBy(t *testing.T) {
	withClock(t)
	needsUnits(t)
	freeBlocks(t, []Block{Malloc(0, 16)}) // or there is no region yet
	if !checkLive {
		t.Skip("skipped: no live state, which tells cached blocks from live ones")
	}
	const most = 256 << 10 // what tables, magazines and other pages of a slab may add
	near := func(when string, got, was uint64, want int64) {
		t.Helper()
		if n := int64(got - was); n < want-most || n > want+most {
			t.Errorf("%s: %d bytes more, want %d", when, n, want)
		}
	}
	fill := func(p Block, size mem.Bytes) {
		if p == 0 {
			t.Fatal(Survived())
		}
		for i := mem.Bytes(0); i < size; i += 4096 {
			*u8(p.addr().Add(i)) = 1
		}
	}
	for _, c := range []struct {
		name string
		size mem.Bytes
	}{{"a large block", 2 << 20}, {"a huge block that ends in a chunk", 5 << 20}, {"a huge block of whole chunks", 16 << 20}} {
		t.Run(c.name, func(t *testing.T) {
			drainAll()
			trimCachesNow()
			Trim()
			was := residentBy(t)
			p := Malloc(0, c.size)
			fill(p, c.size)
			is := residentBy(t)
			near("live: large", is.LargeLive, was.LargeLive, int64(c.size))
			near("live: cached", is.LargeCached, was.LargeCached, 0)
			near("live: slabs", is.Slabs, was.Slabs, 0)
			freeBlocks(t, []Block{p})
			is = residentBy(t)
			near("cached: large", is.LargeLive, was.LargeLive, 0)
			near("cached: cached", is.LargeCached, was.LargeCached, int64(c.size))
			drainAll()
			trimCachesNow()
			is = residentBy(t)
			near("free: cached", is.LargeCached, was.LargeCached, 0)
			near("free: free", is.Free, was.Free, int64(c.size))
			Trim()
			is = residentBy(t)
			near("returned: free", is.Free, was.Free, 0)
		})
	}
	t.Run("small blocks", func(t *testing.T) {
		const blocks, size = 4096, 1 << 10
		was := residentBy(t)
		var held []Block
		for range blocks {
			p := Malloc(0, size)
			fill(p, size)
			held = append(held, p)
		}
		is := residentBy(t)
		near("live: slabs", is.Slabs, was.Slabs, blocks*size)
		near("live: large", is.LargeLive, was.LargeLive, 0)
		if is.Tables <= was.Tables {
			t.Errorf("tables had %d bytes and have %d, for 4 MiB of blocks more", was.Tables, is.Tables)
		}
		freeBlocks(t, held)
		drainAll()
		Trim()
		near("returned: slabs", residentBy(t).Slabs, was.Slabs, 0)
	})
}

// TestResidentUnknown: where the system does not say what is resident, what counts for the limits stands for
// it, and nothing is said of the parts.
func TestResidentUnknown(t *testing.T) {
	withClock(t)
	freeBlocks(t, []Block{Malloc(0, 16)})
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpResident {
			return osmem.ErrInjected
		}
		return nil
	})
	defer osmem.Inject(nil)
	_, resident, by := ReadResident()
	if is := uint64(counted.Load()); resident != is || by != (ResidentTotals{}) {
		t.Errorf("%d bytes are resident, want the %d that count; of the parts it says %+v", resident, is, by)
	}
}
