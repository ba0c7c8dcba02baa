package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// This file returns memory of which the system may refuse a part: memory that the program has locked
// and freed without unlocking it is an example. A refused range is narrowed down, so that everything
// around the OS pages at fault goes back. Those pages stay usable. They are left alone for a time
// that doubles with each further refusal: a refusal is mostly for good.
//
// What was refused is known by page of 64 KiB (superMeta.refused), whatever the page is used for in
// the meantime: the system's reason lies in the address. The scavenger's timer does not run for
// refused pages. Trim tries them again at once.
//
// Only one goroutine at a time returns memory, under scavenger.mu, which owns the state of this file.

// beats counts the steps of whoever holds scavenger.mu. Those who wait for it see that it works. Any
// goroutine may read it.
var beats atomic.Uint64

// narrowing is the work on refused ranges: how many calls are left until the next tick, and room for
// the ranges still to try and for those that are refused.
var narrowing struct {
	calls int
	todo  [2*narrowCalls + 3]osmem.Range
	bad   [narrowCalls + 2]osmem.Range
}

// narrowCalls bounds the calls in a tick that narrow ranges down. One locked block of 64 KiB amid 64
// MiB takes 50. A refused call takes 0.3 µs, one that returns 64 KiB some 5 µs, so that this many
// take a millisecond, about as long as a tick's look at slabs.
const narrowCalls = 256

// narrowVain is how many calls in a row may fail before no more are made in the tick: where all memory
// is locked (mlockall), more would fail, too. A range is then halved six times.
const narrowVain = 64

// refillNarrowing begins a tick.
func refillNarrowing() { narrowing.calls = narrowCalls }

// returnMemory returns the memory of a range to the operating system. It calls refused for each part
// that the system refuses: what lies there may hold what it held, or zeroes. It reports whether the
// whole range may be touched. (Some systems return memory in two steps, of which the second may fail
// and leave memory that may not be touched. The second step is then tried once more.) What may not
// be touched is out of use until findLost succeeds. The range is the caller's.
func returnMemory(addr mem.Addr, size mem.Bytes, refused func(osmem.Range)) (usable bool) {
	r := osmem.Range{Addr: addr, Size: size}
	if err := tryReturn(r); err != nil {
		return narrow(r, err, refused)
	}
	return true
}

func tryReturn(r osmem.Range) error {
	defer beats.Add(1)
	return osmem.Discard(r.Addr, r.Size)
}

// narrow is returnMemory for a range of which the return has failed with err. It tries the halves of
// what is refused, the largest ranges first, so that most memory goes back before its calls are used
// up.
func narrow(first osmem.Range, err error, refused func(osmem.Range)) (usable bool) {
	n := &narrowing
	todo, bad := append(n.todo[:0], first), n.bad[:0]
	usable = true
	vain := 0
	for i := 0; i < len(todo); i++ {
		r := todo[i]
		if i > 0 {
			if n.calls == 0 {
				bad = append(bad, r)
				continue
			}
			n.calls--
			e := tryReturn(r)
			if e == nil {
				vain = 0
				continue
			}
			if vain++; vain == narrowVain {
				n.calls = 0
			}
			err = e
		}
		switch {
		case errors.Is(err, osmem.ErrDecommitted):
			survive(fmt.Errorf("hakmem: return of free memory: %w", err))
			usable = recommit(r.Addr, r.Size) && usable
			bad = append(bad, r)
		case r.Size <= osmem.PageSize() || n.calls == 0:
			bad = append(bad, r)
		default:
			half := (r.Size / 2).Up(osmem.PageSize())
			todo = append(todo, osmem.Range{Addr: r.Addr, Size: half}, osmem.Range{Addr: r.Addr.Add(half), Size: r.Size - half})
		}
	}
	bad = merge(bad)
	if len(bad) > 0 && !errors.Is(err, osmem.ErrDecommitted) {
		tellRefused(bad[0], err)
	}
	for _, r := range bad {
		refused(r)
	}
	return usable
}

// merge sorts ranges by address and makes one of those that touch.
func merge(ranges []osmem.Range) []osmem.Range {
	slices.SortFunc(ranges, func(a, b osmem.Range) int { return cmp.Compare(a.Addr, b.Addr) })
	n := 0
	for _, r := range ranges {
		if n > 0 && ranges[n-1].Addr.Add(ranges[n-1].Size) == r.Addr {
			ranges[n-1].Size += r.Size
		} else {
			ranges[n] = r
			n++
		}
	}
	return ranges[:n]
}

// tellRefused records the first refusal of each kind. Where a program frees much locked memory, each
// refusal would have an address of its own.
func tellRefused(r osmem.Range, err error) {
	why := osmem.LikelyReason(err)
	if why != "" {
		why = "; " + why
	}
	surviveAs("hakmem: return of free memory: "+err.Error(),
		fmt.Errorf("hakmem: return of free memory: the system refuses %d bytes at %#x: %w%s", r.Size, r.Addr, err, why))
}

// recommit makes memory usable again that a discard left decommitted, and reports whether it could.
func recommit(addr mem.Addr, size mem.Bytes) bool {
	defer beats.Add(1)
	err := osmem.Commit(addr, size)
	if err != nil {
		survive(fmt.Errorf("hakmem: commit of pages that could not be returned, which stay out of use until it succeeds: %w", err))
	}
	return err == nil
}

// maxRefusals bounds the time that refused pages are left alone: 1024 times the default window, which
// is 38 minutes. A program whose pages are refused for good makes ten calls for them in the first
// half hour, and then two in an hour.
const maxRefusals = 11

// leftAlone returns the pages of the chunk that are not to be tried again yet. Under scavenger.mu.
func (s *superMeta) leftAlone(now stamp) pageSet {
	if s.refused == 0 || uint64(now.since(s.refusedAt)) >= uint64(decay())<<(s.refusals-1) {
		return 0
	}
	return s.refused
}

// outcome notes what came of the return of memory in the pages tried of the chunk: it was
// refused in the pages refused. The pages are in use or out of use; free pages are counted in
// pageUse.refused by the caller. Under scavenger.mu and region.mu.
func (s *superMeta) outcome(tried, refused pageSet, now stamp) {
	check.MustHold(&region.mu, "outcome")
	s.refused = s.refused&^tried | refused
	switch {
	case refused != 0:
		s.refusals, s.refusedAt = min(s.refusals+1, maxRefusals), now
	case s.refused == 0:
		s.refusals = 0
	}
}
