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

// beginLook begins a look, and reports whether the system tells what is resident. Where it does not,
// looks find nothing.
func beginLook(look *osmem.Look) bool { return osmem.BeginLook(look) == nil }

// countResident returns the resident OS pages of a range of the region, by bucket. If only is not nil, a
// page counts only if only(its offset in the range) is true.
func countResident(look *osmem.Look, addr mem.Addr, size mem.Bytes, only func(offset uintptr) bool) (counts pageFaultCounts) {
	step := osmem.PageSize()
	for look.Over(addr, size); look.Next(); {
		end := look.Run.Addr.Add(look.Run.Size)
		for at := look.Run.Addr; at < end; {
			page := pageAt(at)
			b, next := bucketAt(page), min(end, (page+1).addr())
			for ; at < next; at = at.Add(step) {
				if only == nil || only(uintptr(at.From(addr))) {
					counts[b]++
				}
			}
		}
	}
	if !look.Known() {
		return pageFaultCounts{}
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
