package engine

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file counts page faults by what the memory was used for. The counts are owned by residency's
// lock.
//
// Page faults are measured, not inferred from what was handed out. An OS page that is resident was
// faulted in after its memory was last returned. So the page faults so far are the pages that are
// resident now, and those that were resident each time something was returned. (A huge page of the
// system is one fault, and counts as all of its OS pages.)

// bucketOf returns the bucket of a large block of so many bytes.
func bucketOf(spanBytes mem.Bytes) bucket {
	if spanBytes > sizeclass.MaxLarge {
		return bucketHuge
	}
	return bucketLarge
}

// residency counts, by bucket, the OS pages that were resident when their memory was returned.
var residency struct {
	check.Mutex[check.Residency]
	returned pageFaultCounts
	// vec is the scratch of one call of countResident, for at most a batch of purge's: 64 MiB in OS
	// pages of 4 KiB.
	vec [purgeBatch * superSize / 4096]byte
}

// pageFaultCounts has a number of OS pages for each bucket.
type pageFaultCounts [numBuckets]uint64

// countResident returns the resident OS pages of a range of the region, by bucket. The range is at
// most purgeBatch chunks. If only is not nil, a page counts only if only(its offset in the range)
// is true.
func countResident(addr mem.Addr, size mem.Bytes, only func(offset uintptr) bool) (counts pageFaultCounts) {
	r := &residency
	r.Lock()
	defer r.Unlock()
	n, err := osmem.Resident(addr, size, r.vec[:])
	if err != nil || n == 0 { // nothing depends on it
		if err != nil && !errors.Is(err, osmem.ErrNotSupported) {
			survive(fmt.Errorf("hakmem: resident pages: %w", err))
		}
		return
	}
	step := osmem.PageSize()
	for i, v := range r.vec[:(size+step-1)/step] {
		if v&1 == 0 || only != nil && !only(uintptr(mem.Bytes(i)*step)) {
			continue
		}
		counts[meta(pageAt(addr.Add(mem.Bytes(i)*step))).bucket]++
	}
	return counts
}

// countReturned notes that memory with these resident pages was returned.
func countReturned(counts pageFaultCounts) {
	residency.Lock()
	defer residency.Unlock()
	for b, n := range counts {
		residency.returned[b] += n
	}
}

// readPageFaults returns the OS pages faulted in so far, by bucket, and how many of the blocks' OS
// pages are resident now.
func readPageFaults() (counts pageFaultCounts, now uint64) {
	residency.Lock()
	counts = residency.returned
	residency.Unlock()
	var dirty [purgeBatch]pageSet
	end := region.endChunk()
	for c := region.firstChunk(); c < end; c += purgeBatch {
		n := min(purgeBatch, end-c)
		any := pageSet(0)
		region.mu.Lock()
		for i := range n {
			dirty[i] = super(c + i).dirty
			any |= dirty[i]
		}
		region.mu.Unlock()
		if any == 0 {
			continue
		}
		last := n - 1
		for dirty[last] == 0 {
			last--
		}
		pages := pageCount(last)*superPages + pageCount(bits.Len32(uint32(dirty[last])))
		for b, n := range countResident(c.addr(), pages.bytes(), nil) {
			counts[b] += n
			now += n
		}
	}
	return counts, now
}

// residentIn returns how many bytes of a range are resident, or false where that is not known.
func residentIn(addr mem.Addr, size mem.Bytes) (n mem.Bytes, known bool) {
	residency.Lock()
	defer residency.Unlock()
	system := osmem.PageSize()
	from := mem.Addr(mem.Bytes(addr).Down(system))
	pages, err := osmem.Resident(from, addr.Add(size).From(from), residency.vec[:])
	if err != nil && !errors.Is(err, osmem.ErrNotSupported) {
		survive(fmt.Errorf("hakmem: resident pages: %w", err))
	}
	return mem.Bytes(pages) * system, err == nil
}
