package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file counts page faults by what the memory was used for. The counts are atomic.
//
// Page faults are measured, not inferred from what was handed out. An OS page that is resident was
// faulted in after its memory was last returned. So the page faults so far are the pages that are
// resident now, and those that were resident each time something was returned. (A huge page of the
// system is one fault, and counts as all of its OS pages.) Where the system does not tell what is
// resident, nothing is counted.

// bucketOf returns the bucket of a large block of so many bytes.
func bucketOf(spanBytes mem.Bytes) bucket {
	if spanBytes > sizeclass.MaxLarge {
		return bucketHuge
	}
	return bucketLarge
}

// returnedPages counts, by bucket, the OS pages that were resident when their memory was returned.
var returnedPages [numBuckets]atomic.Uint64

// pageFaultCounts has a number of OS pages for each bucket.
type pageFaultCounts [numBuckets]uint64

// returnLook is the scratch for looks at memory that is about to be returned: the entries of 16 MiB
// in OS pages of 4 KiB. A system call for so many costs next to nothing for each of them. Owned by
// scavenger.mu.
var returnLook [4096]uint64

// beginLook begins a look, and reports whether the system tells what is resident. Where it does not,
// looks find nothing.
func beginLook(look *osmem.Look) bool { return osmem.BeginLook(look) == nil }

// countResident returns the resident OS pages of a range of the region, by bucket. entries is
// scratch. If only is not nil, a page counts only if only(its offset in the range) is true.
func countResident(look *osmem.Look, entries []uint64, addr mem.Addr, size mem.Bytes, only func(offset uintptr) bool) (counts pageFaultCounts) {
	step := osmem.PageSize()
	for done := mem.Bytes(0); done < size; {
		n := min(size-done, mem.Bytes(len(entries))*step)
		found, resident, err := look.Resident(addr.Add(done), n, entries)
		if err != nil {
			return pageFaultCounts{}
		}
		if resident > 0 {
			for i, e := range found {
				at := done + mem.Bytes(i)*step
				if e>>63 != 0 && (only == nil || only(uintptr(at))) {
					counts[bucketAt(pageAt(addr.Add(at)))]++
				}
			}
		}
		done += n
	}
	return counts
}

// countReturned notes that memory with these resident pages was returned.
func countReturned(counts pageFaultCounts) {
	for b, n := range counts {
		if n > 0 {
			returnedPages[b].Add(n)
		}
	}
}

// residentIn returns how many bytes of a range are resident, or false where that is not known.
func residentIn(look *osmem.Look, addr mem.Addr, size mem.Bytes) (n mem.Bytes, known bool) {
	var entries [superSize / 4096]uint64
	step := osmem.PageSize()
	end := addr.Add(size)
	for at := mem.Addr(mem.Bytes(addr).Down(step)); at < end; at = at.Add(mem.Bytes(len(entries)) * step) {
		_, pages, err := look.Resident(at, min(end.From(at), mem.Bytes(len(entries))*step), entries[:])
		if err != nil {
			return 0, false
		}
		n += mem.Bytes(pages) * step
	}
	return n, true
}
