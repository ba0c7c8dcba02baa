package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// This file asks the operating system how much of hakmem's memory is resident, and says what that memory is
// used for.
//
// The walk goes over the chunks in ascending order, because only the first page of a large block says
// whether the block is live: the walk remembers it for the pages that follow.

type (
	// ResidentTotals says what the resident memory is used for, in bytes.
	ResidentTotals struct{ Slabs, LargeLive, LargeCached, Free, Guarded, Tables uint64 }
	// PageFaultTotals are the OS pages faulted in, by bucket.
	PageFaultTotals struct{ Tiny, Mid, Large, Huge uint64 }
)

// ReadResident returns what the operating system tells: the OS pages faulted in so far, how many bytes of
// hakmem's memory are resident, and what these are used for. Where it does not tell, resident is what counts
// for the limits, and by is 0. Any goroutine, not entered. It is apart from ReadTotals because whoever asks
// the system should hold no lock.
func ReadResident() (faults PageFaultTotals, resident uint64, by ResidentTotals) {
	check.MustNotBeEntered("ReadResident")
	if !region.ready.Load() {
		return faults, 0, by
	}
	resident = uint64(counted.Load())
	var w residentWalk
	for b := range w.faults {
		w.faults[b] = returnedPages[b].Load()
	}
	var look osmem.Look
	if beginLook(&look) {
		defer look.Close()
		w.addBlocks(&look)
		if tables, known := residentTables(&look); known {
			by = ResidentTotals{
				Slabs: w.bytes[useSlab], LargeLive: w.bytes[useLive], LargeCached: w.bytes[useCached], Free: w.bytes[useFree],
				Guarded: uint64(tables.guarded), Tables: uint64(tables.own),
			}
			resident = by.Slabs + by.LargeLive + by.LargeCached + by.Free + by.Guarded + by.Tables
		}
	}
	n := &w.faults
	return PageFaultTotals{Tiny: n[bucketTiny], Mid: n[bucketMid], Large: n[bucketLarge], Huge: n[bucketHuge]}, resident, by
}

// residentUse says what a page is used for.
type residentUse uint8

const (
	useFree   residentUse = iota
	useSlab               // blocks up to 32 KiB
	useLive               // a large block
	useCached             // a large block that was freed, in a magazine, a cache or the quarantine
	numUses
)

// residentWalk counts the resident OS pages of blocks.
type residentWalk struct {
	faults pageFaultCounts
	bytes  [numUses]uint64
	// end is the page behind the large block in which the walk is, and large what that block is.
	end   pageNo
	large residentUse
}

// chunkUse is what the walk has to know of a chunk, as it was at one moment.
type chunkUse struct {
	dirty, free pageSet
	slabs       bool
}

// addBlocks counts the pages of blocks, live or free. No lock is held while the system is asked.
func (w *residentWalk) addBlocks(look *osmem.Look) {
	var uses [purgeBatch]chunkUse
	end := region.endChunk()
	for c := region.firstChunk(); c < end; c += purgeBatch {
		n := min(purgeBatch, end-c)
		region.mu.Lock()
		for i := range n {
			s := super(c + i)
			uses[i] = chunkUse{dirty: s.dirty, free: s.free, slabs: s.isSlabs}
			if ownerOf(c+i) != 0 {
				uses[i].dirty = ^pageSet(0)
			}
		}
		region.mu.Unlock()
		for i := chunkNo(0); i < n; {
			from := i
			for i < n && uses[i].dirty != 0 {
				i++
			}
			if i > from {
				w.addChunks(look, c+from, uses[from:i])
			} else {
				i++
			}
		}
	}
}

// addChunks counts the pages of the chunks from c on, in each of them up to the last one that may have
// memory. The system is asked for all of them at once.
func (w *residentWalk) addChunks(look *osmem.Look, c chunkNo, uses []chunkUse) {
	look.Over(c.addr(), mem.Bytes(len(uses))<<superShift)
	more := look.Next()
	for i := range uses {
		first := (c + chunkNo(i)).page()
		for page := first; page < first+pageNo(bits.Len32(uint32(uses[i].dirty))); page++ {
			from, to, resident := page.addr(), (page + 1).addr(), mem.Bytes(0)
			for more {
				end := look.Run.Addr.Add(look.Run.Size)
				if end > from && look.Run.Addr < to {
					resident += min(end, to).From(max(look.Run.Addr, from))
				}
				if end > to { // it goes on in the next page
					break
				}
				more = look.Next()
			}
			u := w.useOf(page, &uses[i])
			if resident > 0 {
				w.bytes[u] += uint64(resident)
				w.faults[bucketAt(page)] += uint64(resident / osmem.PageSize())
			}
		}
	}
}

// useOf returns what a page is used for. The walk has looked at all pages before it. While others allocate
// and free, it may be what the page was used for a moment ago.
func (w *residentWalk) useOf(page pageNo, use *chunkUse) residentUse {
	switch m := meta(page); {
	case page < w.end:
		return w.large
	case use.free>>page.inChunk()&1 != 0:
		return useFree
	case use.slabs:
		return useSlab
	case ownerOf(page.chunk()) != 0, m.kind != kindLarge: // it has just been taken or given back, or may not be touched
		return useLive
	default:
		w.end, w.large = page+pageNo(m.pages), useLive
		if m.cached() {
			w.large = useCached
		}
		return w.large
	}
}

// tableBytes is what is resident besides the pages for blocks: hakmem's own tables with the fronts, and
// guarded blocks.
type tableBytes struct{ own, guarded mem.Bytes }

// residentTables returns the bytes that are resident besides the pages for blocks, or false where that is
// not known.
func residentTables(look *osmem.Look) (n tableBytes, known bool) {
	r := &region
	_, fixed := r.fixedParts(pageCount(r.size >> pageShift))
	r.mu.Lock()
	var room [4 + numAreas]osmem.Range // on the stack: statistics take no Go memory
	ranges := append(room[:0],
		osmem.Range{Addr: r.owners, Size: fixed}, // the first of the parts
		osmem.Range{Addr: r.supers, Size: r.supersIn.reserved},
		osmem.Range{Addr: tree.space.base, Size: tree.space.reserved},
		osmem.Range{Addr: frontPool.space.base, Size: mem.Bytes(frontPool.built.Load() * frontSize)})
	for _, a := range r.areas() {
		if a.inUse() {
			ranges = append(ranges, osmem.Range{Addr: a.space.base, Size: a.committed - a.start()})
		}
	}
	r.mu.Unlock()
	for _, t := range ranges {
		m, ok := look.Resident(t.Addr, t.Size)
		if !ok {
			return n, false
		}
		n.own += m
	}
	guard.Lock()
	guarded := osmem.Range{Addr: guard.base, Size: guard.next.From(guard.base)}
	guard.Unlock()
	n.guarded, known = look.Resident(guarded.Addr, guarded.Size)
	return n, known
}
