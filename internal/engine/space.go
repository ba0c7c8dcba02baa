package engine

import (
	"fmt"
	"math"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// This file reserves address space a step at a time. A reservation takes no memory, but it is not
// free for everybody: an emulator keeps books on each of its pages, and a limit on address space
// counts it.

// space is address space that is used from its beginning upwards. Its owner is the owner of what
// lies in it.
type space struct {
	base     mem.Addr
	most     mem.Bytes // bytes of the place from base on
	reserved mem.Bytes // how many of these are reserved
	sparse   bool      // it is touched here and there: a huge page for each such place would be a waste
}

// tablesName labels the mappings of hakmem's tables and of fronts.
const tablesName = "hakmem: tables"

// takeAll notes that the whole place is reserved.
func (s *space) takeAll() {
	s.reserved = s.most
	osmem.Name(s.base, s.most, tablesName)
	if s.sparse {
		smallPagesOnly(s.base, s.most)
	}
}

// smallPagesOnly keeps the system from making huge pages of a range, where it has them.
func smallPagesOnly(addr mem.Addr, size mem.Bytes) {
	if osmem.HugePageSize() == 0 {
		return
	}
	if err := osmem.HugePages(addr, size, false); err != nil {
		survive(fmt.Errorf("hakmem: advice against huge pages for tables: %w", err))
	}
}

// ensure reserves at least the first n bytes. Where address space is limited it reserves no more
// than that.
func (s *space) ensure(n mem.Bytes) error {
	if n <= s.reserved {
		return nil
	}
	if check.On && n > s.most {
		panic(fmt.Sprintf("hakmem: %d bytes of a place that has %d", uint64(n), uint64(s.most)))
	}
	n = n.Up(pageSize)
	left := osmem.AddressSpaceLeft()
	more := min(max(n, 2*s.reserved), s.most) - s.reserved
	if left != math.MaxUint {
		more = min(n, s.most) - s.reserved
		if keep := max(keepLeft, goNeeds); more+keep > left {
			return &limitError{more, left, keep}
		}
	}
	err := osmem.ReserveAt(s.base.Add(s.reserved), more)
	if least := min(n, s.most) - s.reserved; err != nil && more > least {
		more = least // something else may lie behind
		err = osmem.ReserveAt(s.base.Add(s.reserved), more)
	}
	if err != nil {
		return fmt.Errorf("reservation of %d bytes at %#x: %w", uint64(more), s.base.Add(s.reserved), err)
	}
	osmem.Name(s.base.Add(s.reserved), more, tablesName) // blocks get their name from the caller
	if s.sparse {
		smallPagesOnly(s.base.Add(s.reserved), more)
	}
	s.reserved += more
	return nil
}

// goNeeds is the address space that is left to the Go runtime, at least, where it is limited: the
// runtime ends the program when it cannot map an arena of 64 MiB and what belongs to it. keepLeft is
// a fifth of what was left before the region was reserved, 0 where nothing limits it. It is written
// under region.mu before the region is ready.
const goNeeds = 160 << 20

var keepLeft mem.Bytes

// limitError says that a limit on address space has no room.
type limitError struct{ more, left, keep mem.Bytes }

func (e *limitError) Error() string {
	return fmt.Sprintf("%d bytes more of address space are needed; the limit on address space leaves %d, and %d of these are left to the rest of the program: raise RLIMIT_AS (ulimit -v)",
		uint64(e.more), uint64(e.left), uint64(e.keep))
}
