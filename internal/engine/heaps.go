package engine

import (
	"runtime"
	"sync/atomic"
	"weak"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// A Heap's front belongs to the Heap's goroutine, the owner. So that an idle Heap does not keep what
// it has cached, the harvester (harvest.go: a tick of the scavenger, Trim, or a failed allocation)
// may empty the front while its owner does something else. This file has the list of open Heaps and
// the two words by which owner and harvester take turns. docs/concurrency.md, section 3, has the
// argument; internal/explore/heap_test.go explores it.
//
// The owner's slow paths say in busy that they use the front. They do so by plain stores: the
// harvester looks at the word only after a stop of the world, which makes every store before it
// visible. The harvester says in duty what it wants:
//
//	calm       nothing; the owner's word alone counts
//	asked      the Heap's fast paths were sent to the trap front, and a stop of the world is to come
//	taken      the harvester has the front
//	harvested  the harvester is done, and the owner has not used the front since
//
//	calm → asked → taken → harvested   harvester: ask, harvest
//	asked or harvested → calm          owner: settle, in its next slow path
//
// A fast path takes no part in this. What one may still do after the stop of the world is in
// harvest.go.

// hold begins a slow path of the owner: until release no harvester touches the front. It waits while
// one does, for as long as it takes to give one front's blocks back. Not entered.
func (f Front) hold() {
	h := f.head()
	h.busy = 1
	if h.duty.Load() != calm {
		f.settle()
	}
}

// release ends what hold began. Whoever sees 0 in busy must see the owner's stores before it, too.
// On amd64 every store has this property.
func (f Front) release() {
	if runtime.GOARCH == "amd64" {
		f.head().busy = 0
	} else {
		atomic.StoreUint32(&f.head().busy, 0)
	}
}

// settle makes the front the owner's again, whatever the harvester has asked for or done. The owner
// has said that it is busy.
func (f Front) settle() {
	h := f.head()
	for {
		switch h.duty.Load() {
		case calm:
			return
		case asked:
			if h.duty.CompareAndSwap(asked, calm) { // otherwise the harvester was first
				h.woken = wokenEarly
			}
		case taken:
			runtime.Gosched()
		case harvested:
			f.regrow()
			h.woken = max(h.woken, wokenLate)
			h.duty.Store(calm)
		}
	}
}

// cut gives back the blocks of a magazine that lie below its top slot, in a class whose fast path may
// be under way. It puts a new sentinel below the top slot, so that the magazine has less room until
// regrow. The top, and the slot that it points at, are not touched: see harvest.go.
func (f Front) cut(c sizeclass.ID) {
	var buf [TinyMag / 8]Block
	h, top, bottom := f.head(), f.loadTop(c), f.sentinel(c)
	n := int(top-bottom) / 8
	if n < 2 || n > maxBlocks(c) { // 1: nothing below; the trap: not made yet
		return
	}
	f.look(c, uintptr(n))
	n--
	for i := range n {
		buf[i] = Block(*word(bottom + slots(i+1)))
	}
	*word(top - 8) = 0
	h.uncut[c], h.cap[c] = h.cap[c], uint16((f.last(c)-(top-8))/8)
	h.seen[c] = 1
	*f.flushes(c)++
	timedFlush(buf[:n], c)
}

// regrow gives magazines that were cut their room again. By the owner.
func (f Front) regrow() {
	h := f.head()
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		if h.uncut[c] == 0 {
			continue
		}
		from, n := f.sentinel(c), int(f.held(c))
		h.cap[c], h.uncut[c] = h.uncut[c], 0
		to := f.sentinel(c)
		for i := range n + 1 { // the sentinel too
			*word(to + slots(i)) = *word(from + slots(i))
		}
		f.storeTop(c, to+slots(n))
	}
}

// openHeap is what the engine knows of an open Heap.
type openHeap struct {
	front Front
	// fast is the word that says which front the Heap's fast paths use: its own, or the trap. It lies
	// in the Heap, so it is reached through a weak pointer, and only while the pointer is held. The
	// owner writes it (ReopenHeap); the harvester stores the trap (ask).
	fast weak.Pointer[Front]
	idle seenHeap // owned by scavenger.mu
}

// seenHeap is what the scavenger knows of an open Heap: seenFront for the front as a whole. Times are
// in milliseconds.
type seenHeap struct {
	print uint64 // of the front, when it was last seen
	since stamp  // when the front first had it
	need  millis // for how long it must stay the same for the Heap to be idle
	built stamp  // since when the Heap is in use: when it was first seen, or first after a harvest
	used  bool   // it was in use when it was last seen
}

// openHeaps has the open Heaps by their front, from NewHeap to Close or to the cleanup of an
// unreachable Heap. A Heap can be asked for its front only while it is in the list, under the lock.
var openHeaps struct {
	check.Mutex[check.OpenHeaps]
	by map[Front]*openHeap
}

// OpenHeap notes a new Heap, whose front is f and whose fast paths use the front in *fast. fast
// points into a Go object that lives as long as the Heap is in use. Not entered.
func OpenHeap(f Front, fast *Front) {
	h := &openHeap{front: f, fast: weak.Make(fast)}
	openHeaps.Lock()
	defer openHeaps.Unlock()
	if openHeaps.by == nil {
		openHeaps.by = map[Front]*openHeap{}
	}
	openHeaps.by[f] = h
}

// forget takes the Heap with front f off the list. From here on nobody asks for the front; what was
// asked before is settled by hold.
func forget(f Front) {
	openHeaps.Lock()
	defer openHeaps.Unlock()
	delete(openHeaps.by, f)
}

// appendHeaps appends the Heaps that are open now to list.
func appendHeaps(list []*openHeap) []*openHeap {
	openHeaps.Lock()
	defer openHeaps.Unlock()
	for _, h := range openHeaps.by {
		list = append(list, h)
	}
	return list
}

// anyToHarvest reports whether a Heap is open that the harvester has not been to since its owner last
// used it.
func anyToHarvest() bool {
	openHeaps.Lock()
	defer openHeaps.Unlock()
	for f := range openHeaps.by {
		if f.head().duty.Load() != harvested {
			return true
		}
	}
	return false
}

// ask sends the Heap's fast paths to the trap front and says in duty that the front is wanted. It
// reports false if the Heap was closed meanwhile or is unreachable, or if its front needs no
// harvest. By the harvester. The Heap is held while its word is written, and its front cannot become
// another Heap's meanwhile.
func (h *openHeap) ask() bool {
	fast := h.fast.Value()
	if fast == nil { // unreachable: abandon.go gives its front back
		return false
	}
	openHeaps.Lock()
	defer openHeaps.Unlock()
	duty := &h.front.head().duty
	if openHeaps.by[h.front] != h || !duty.CompareAndSwap(calm, asked) && duty.Load() != asked {
		return false
	}
	atomic.StoreUintptr((*uintptr)(fast), uintptr(trapFront)) // after duty: see ReopenHeap
	return true
}

// inHeaps returns the bytes of free blocks that a harvest of all open Heaps would give back.
func inHeaps() (n mem.Bytes) {
	openHeaps.Lock()
	defer openHeaps.Unlock()
	for f := range openHeaps.by {
		if f.head().duty.Load() != harvested {
			n += f.heldBytes()
		}
	}
	return n
}

// heldBytes returns the bytes of free blocks in the magazines and the quarantine of a front.
func (f Front) heldBytes() mem.Bytes { return f.inMagazines() + f.inQuarantine() }

// inQuarantine returns the bytes of blocks in the quarantine of a front, without those above 2 MiB.
func (f Front) inQuarantine() (n mem.Bytes) {
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		n += mem.Bytes(atomic.LoadUint32(&f.head().waiting[c])) * c.Bytes()
	}
	return n
}

// inMagazines returns the bytes of free blocks in the magazines of a front.
func (f Front) inMagazines() (n mem.Bytes) {
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		n += mem.Bytes(f.held(c)) * c.Bytes()
	}
	return n
}
