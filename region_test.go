package hakmem_test

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// TestReadRegion follows memory through the map: used, warm, returned, and holes between live blocks.
func TestReadRegion(t *testing.T) { testkit.InChild(t, "map", "", "HAKMEM_KEEP=always") }

var _ = testkit.Child("map", func(string) error {
	if n := len(hakmem.ReadRegion(nil)); n != 0 {
		return fmt.Errorf("%d parts before the first allocation", n)
	}
	sum := func() (s hakmem.RegionPart, err error) {
		for i, part := range hakmem.ReadRegion(nil) {
			if all := part.Used + part.Holes + part.Warm + part.Returned; all != hakmem.RegionPartBytes {
				return s, fmt.Errorf("part %d: %+v is %d bytes together", i, part, all)
			}
			s = hakmem.RegionPart{Used: s.Used + part.Used, Holes: s.Holes + part.Holes, Warm: s.Warm + part.Warm, Returned: s.Returned + part.Returned}
		}
		return s, nil
	}
	const size, blocks = 32 << 10, 2048 // 64 MiB of slabs
	var held []unsafe.Pointer
	for range blocks {
		p := hakmem.Malloc(size)
		if p == nil {
			return hakmem.Err()
		}
		clear(unsafe.Slice((*byte)(p), size))
		held = append(held, p)
	}
	large := hakmem.Malloc(16 << 20)
	clear(unsafe.Slice((*byte)(large), 16<<20))
	full, err := sum()
	if err != nil || full.Used < 80<<20 || full.Used > 96<<20 {
		return fmt.Errorf("%+v with 80 MiB in use, %v", full, err)
	}
	for i, p := range held {
		if i%8 != 0 {
			hakmem.Free(p)
		}
	}
	hakmem.Free(large)
	hakmem.Trim()
	sparse, err := sum()
	if err != nil || sparse.Used >= full.Used || sparse.Returned <= full.Returned {
		return fmt.Errorf("%+v after the blocks were freed, %+v before, %v", sparse, full, err)
	}
	if sparse.Holes == 0 {
		return fmt.Errorf("no holes between one block in eight: %+v", sparse)
	}
	for i, p := range held {
		if i%8 == 0 {
			hakmem.Free(p)
		}
	}
	var parts []hakmem.RegionPart
	parts = hakmem.ReadRegion(parts[:0])
	if allocs := testing.AllocsPerRun(10, func() { parts = hakmem.ReadRegion(parts[:0]) }); allocs != 0 {
		return fmt.Errorf("a reading into the same slice makes %v Go objects", allocs)
	}
	p := hakmem.Malloc(64 << 20)
	clear(unsafe.Slice((*byte)(p), 64<<20))
	hakmem.Free(p)
	if warm, err := sum(); err != nil || warm.Used+warm.Warm < 64<<20 {
		return fmt.Errorf("%+v when 64 MiB were freed, and are kept: %v", warm, err)
	}
	hakmem.Trim()
	if cold, err := sum(); err != nil || cold.Used+cold.Warm > 4<<20 || cold.Returned < 64<<20 {
		return fmt.Errorf("%+v when all was returned: %v", cold, err)
	}
	return nil
})
