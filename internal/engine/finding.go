package engine

import (
	"fmt"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Kind says what is wrong with a pointer.
type Kind uint8

const (
	OK             Kind = iota
	Freed               // a block that is not live: freed before
	LateFreed           // a second free that overlapped the first in time
	Interior            // inside a block
	Unaligned           // in the region, not a multiple of 16
	Foreign             // not in the region
	NeverAllocated      // in the region, where there is no block
	InArena             // memory of an Arena
	WasArena            // memory of an Arena that was closed
	Overflow            // bytes behind a live block were touched
	Underflow           // bytes before a live block were touched
	UsedFreed           // a freed block was touched, and a fault was the answer
	WrittenFreed        // a freed block that was written to; it was not touched
)

// Freed reports whether the free that found f was done all the same: what it found
// is another block's misuse.
func (f *Finding) Freed() bool { return f.Kind == LateFreed || f.Kind == WrittenFreed }

// Fault describes a misuse, found before anything was changed (but for
// LateFreed, whose copy was dropped). The zero Fault is none.
type Finding struct {
	Kind  Kind
	Addr  mem.Addr  // the pointer given
	Block Block     // start of the block it lies in, when there is one
	Class mem.Bytes // size of that block, or 0
	// Offset is how far from Block the first byte lies that was touched: of
	// Overflow, Underflow (before it), UsedFreed and WrittenFreed.
	Offset mem.Bytes
	// AllocStack and FreeStack are those of a guarded block, as runtime.Callers
	// gives them.
	AllocStack, FreeStack []uintptr
}

// outOfMemory counts allocations that returned nil.
var outOfMemory atomic.Uint64

func noMemory() Block {
	outOfMemory.Add(1)
	return 0
}

// DidWithout says that an allocation which returned 0 does not make its caller fail.
func DidWithout() { outOfMemory.Add(^uint64(0)) }

// fault describes the invalid pointer p, which liveByte refused with why.
func finding(p Block, m *pageMeta, why Kind) Finding {
	x := Finding{Kind: why, Addr: mem.Addr(p)}
	if m == nil {
		return x
	}
	switch m.kind {
	case kindTiny, kindMid, kindSlabFreed:
		k := m.slabClassNow()
		i, _ := k.Index(p.addr().From(m.start))
		x.Class = mem.Bytes(k.Size)
		if i < k.Blocks {
			x.Block = Block(m.start + mem.Addr(uintptr(i)*uintptr(k.Size)))
		}
	case kindLarge, kindLargeTail, kindLargeFreed:
		x.Block = Block(m.start)
		x.Class = meta(pageAt(m.start)).largeSize
	}
	return x
}

// lateFrees counts double frees found late.
var lateFrees atomic.Uint64

// postponed is the one list of misuse that was found in the middle of something else:
// late double frees, and blocks written to after their free. The operation that found
// it reports it at its end (TakeFinding), or the next one that can. Oldest first.
var postponed struct {
	check.Mutex[check.Postponed]
	any      atomic.Bool
	findings []Finding
	// pinned has late double frees that were found by a pinned goroutine, which may take
	// no lock: addresses, or 0. One carve seldom finds more than one.
	pinned [8]atomic.Uintptr
}

// maxPostponed bounds the list: a program with more than that to report will meet
// the rest when it runs again.
const maxPostponed = 64

// Postpone leaves f for the next TakeFinding, unless it is OK. Not entered.
func Postpone(f Finding) {
	check.MustNotBeEntered("Postpone")
	if f.Kind == OK {
		return
	}
	p := &postponed
	p.Lock()
	defer p.Unlock()
	if len(p.findings) < maxPostponed {
		p.findings = append(p.findings, f)
		p.any.Store(true)
	}
}

// foundLate counts and postpones a late double free of the block at p. Not entered; any
// lock may be held.
func foundLate(p Block) {
	check.MustNotBeEntered("foundLate")
	lateFrees.Add(1)
	Postpone(lateFinding(p))
}

// foundLateEntered is foundLate for a caller that is entered.
func foundLateEntered(p Block) {
	lateFrees.Add(1)
	for i := range postponed.pinned {
		if postponed.pinned[i].CompareAndSwap(0, uintptr(p)) {
			break
		}
	}
	postponed.any.Store(true)
}

func lateFinding(p Block) Finding {
	return Finding{Kind: LateFreed, Addr: mem.Addr(p), Block: p, Class: finding(p, meta(p.page()), LateFreed).Class}
}

// TakeFinding returns the oldest postponed misuse, once; OK if there is none. Not
// entered.
func TakeFinding() Finding {
	check.MustNotBeEntered("TakeFinding")
	if !postponed.any.Load() {
		return Finding{}
	}
	p := &postponed
	p.Lock()
	defer p.Unlock()
	p.any.Store(false) // first: what is found from here on sets it again
	for i := range p.pinned {
		if at := p.pinned[i].Swap(0); at != 0 {
			p.findings = append(p.findings, lateFinding(Block(at)))
		}
	}
	if len(p.findings) == 0 {
		return Finding{}
	}
	f := p.findings[0]
	p.findings = append(p.findings[:0], p.findings[1:]...)
	if len(p.findings) > 0 {
		p.any.Store(true)
	}
	return f
}

// fatal stops the program on a broken invariant of hakmem's own, with what is
// known.
func fatal(what string, addr mem.Addr, class sizeclass.ID) {
	panic(fmt.Sprintf("hakmem: broken invariant: %s (address %#x, class %d of %d bytes); please report it",
		what, addr, class, sizeclass.Classes[class].Size))
}
