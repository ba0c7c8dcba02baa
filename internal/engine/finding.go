package engine

import (
	"fmt"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file describes misuse that was found, and keeps the findings that cannot be reported at
// once. Their list is owned by its own lock; pinned goroutines use atomics instead.

// Kind says what is wrong with a pointer.
type Kind uint8

const (
	OK             Kind = iota
	Freed               // a block that is not live: it was freed before
	LateFreed           // a second free that overlapped the first in time
	Interior            // inside a block
	Unaligned           // in the region, but not a multiple of 16
	Foreign             // not in the region
	NeverAllocated      // in the region, where there is no block
	InArena             // memory of an Arena
	WasArena            // memory of an Arena that was closed
	Overflow            // bytes behind a live block were touched
	Underflow           // bytes before a live block were touched
	UsedFreed           // a freed block was touched, and the access faulted
	WrittenFreed        // a freed block was written to; the access did not fault
)

// Freed reports whether the free that found f was carried out all the same, because f is the misuse
// of another block.
func (f *Finding) Freed() bool { return f.Kind == LateFreed || f.Kind == WrittenFreed }

// Finding describes a misuse. It was found before anything was changed, except where Freed says
// otherwise. The zero Finding is none.
type Finding struct {
	Kind  Kind
	Addr  mem.Addr  // the pointer given
	Block Block     // start of the block that the pointer lies in, if there is one
	Class mem.Bytes // size of that block, or 0
	// Offset is the distance from Block to the first byte that was touched. It is set for Overflow,
	// Underflow (where the byte lies before Block), UsedFreed and WrittenFreed.
	Offset mem.Bytes
	// AllocStack and FreeStack are the stacks of a guarded block's allocation and free, as
	// runtime.Callers gives them.
	AllocStack, FreeStack []uintptr
}

// outOfMemory counts the allocations that returned nil.
var outOfMemory atomic.Uint64

// noMemory counts an allocation that fails, and returns 0 for it.
func noMemory() Block {
	outOfMemory.Add(1)
	return 0
}

// DidWithout takes back what the last allocation that returned 0 counted: its caller does not fail.
func DidWithout() { outOfMemory.Add(^uint64(0)) }

// finding describes the invalid pointer p, which liveByte refused for the reason why.
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

// lateFrees counts the double frees that were found late.
var lateFrees atomic.Uint64

// postponed is the list of misuse that was found in the middle of something else: late double
// frees, and blocks that were written to after their free. The operation that found the misuse
// reports it when it ends (TakeFinding); if it cannot, the next operation that can does. Oldest
// first.
var postponed struct {
	check.Mutex[check.Postponed]
	any      atomic.Bool
	findings []Finding
	// pinned has late double frees that were found by a pinned goroutine, which may take no lock.
	// The entries are addresses of blocks, or 0. One carve seldom finds more than one.
	pinned [8]atomic.Uintptr
}

// maxPostponed bounds the list. A program that has more to report will meet the rest when it runs
// again.
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

// foundLate counts and postpones a late double free of the block at p. Not entered; region.mu and
// locks that are taken before it may be held.
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

// lateFinding describes a late double free of the block at p.
func lateFinding(p Block) Finding {
	return Finding{Kind: LateFreed, Addr: mem.Addr(p), Block: p, Class: finding(p, meta(p.page()), LateFreed).Class}
}

// TakeFinding returns the oldest postponed misuse and removes it from the list, or returns OK if
// there is none. Not entered.
func TakeFinding() Finding {
	check.MustNotBeEntered("TakeFinding")
	if !postponed.any.Load() {
		return Finding{}
	}
	p := &postponed
	p.Lock()
	defer p.Unlock()
	p.any.Store(false) // first: a finding from here on sets it again
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

// fatal stops the program on a broken invariant of hakmem's own, with what is known about it.
func fatal(what string, addr mem.Addr, class sizeclass.ID) {
	panic(fmt.Sprintf("hakmem: broken invariant: %s (address %#x, class %d of %d bytes); please report it",
		what, addr, class, sizeclass.Classes[class].Size))
}
