package hakmem

import (
	"fmt"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// MisuseError is the value of the panic with which an invalid free, reallocation or size query
// ends. Nothing was changed before the panic, except where Late is true.
type MisuseError struct {
	// Op is the function that was called, "Free" or "Heap.Close" for example.
	Op string
	// Kind says what is wrong: "double free", "use after free", "interior pointer", "unaligned
	// pointer", "not hakmem's", "never allocated", "arena memory", "memory of a closed arena",
	// "closed heap", "copied heap", "unmade heap", "closed arena", "copied arena" or, of package
	// offheap, "closed interner", "unmade interner", "closed map", "copied map", "closed owner", "copied
	// owner", "not the owner's", "stale ref" or "nil ref". With HAKMEM_HARDEN or HAKMEM_GUARD it can also be "buffer overflow", "buffer underflow" or
	// "write after free".
	Kind string
	// Addr is the pointer that was passed, or the number of the Ref. Block is the start of the block in which it lies, and
	// Class that block's size in bytes; both are 0 where they are not known.
	Addr, Block, Class uintptr
	// Offset is the distance in bytes from Block to the first byte that was touched; for a "buffer
	// underflow" that byte lies before Block. It is set for a "buffer overflow", a "buffer
	// underflow", a "write after free", and for a "use after free" that faulted.
	Offset uintptr
	// AllocStack and FreeStack hold the program counters of the calls that allocated and freed a
	// guarded block, for runtime.CallersFrames. Stacks prints them.
	AllocStack, FreeStack []uintptr
	// Late says that the misuse happened earlier and was only found now, by a call that need not be
	// the one to blame. Either a freed block was written to, or two frees of Addr overlapped and
	// the second copy of the block was dropped. What else overlapping frees can do is described in
	// https://github.com/hakmem/hakmem/blob/main/docs/security.md#frees-that-overlap.
	Late bool
}

// Error names the operation, the address, the block, as far as is known where it was allocated and
// freed, and the remedy.
func (e *MisuseError) Error() string {
	s := fmt.Sprintf("hakmem: %s(%#x): %s", e.Op, e.Addr, e.Kind)
	if e.Late {
		s += " (detected late)"
	}
	switch {
	case e.Kind == kindClosedInterner || e.Kind == kindUnmadeInterner || e.Kind == kindClosedMap || e.Kind == kindCopiedMap || e.Kind == kindClosedOwner || e.Kind == kindCopiedOwner:
		s += " (the address is that of the handle)"
	case e.Kind == kindUnderflow:
		s += fmt.Sprintf(": byte -%d was touched", e.Offset)
	case e.Kind == kindOverflow || e.Kind == kindWritten:
		s += fmt.Sprintf(": byte %d was touched", e.Offset)
	case e.Op == opFault:
		s += fmt.Sprintf(" of byte %d", e.Offset)
	case e.Kind == kindClosedHeap || e.Kind == kindCopiedHeap || e.Kind == kindUnmadeHeap || e.Kind == kindClosedArena || e.Kind == kindCopiedArena:
		s += " (the address is that of the handle)"
	}
	if e.Block != 0 && e.Class != 0 {
		s += fmt.Sprintf(" (block %#x of %d bytes)", e.Block, e.Class)
	}
	s += stacksOf(e.AllocStack, e.FreeStack)
	if e.AllocStack != nil {
		s += " (Stacks has more)"
	}
	if r := remedies[e.Kind]; r != "" {
		s += "; " + r
	}
	return s
}

const ( // errors of these kinds are made by package offheap
	kindClosedInterner = "closed interner"
	kindUnmadeInterner = "unmade interner"
	kindClosedMap      = "closed map"
	kindCopiedMap      = "copied map"
	kindClosedOwner    = "closed owner"
	kindCopiedOwner    = "copied owner"
	kindNotOwners      = "not the owner's"
	kindStaleRef       = "stale ref"
	kindNilRef         = "nil ref"
)

// stacksOf says where a block was allocated and freed, as far as is known.
func stacksOf(alloc, free []uintptr) (s string) {
	if where := engine.Outside(alloc); where != "" {
		s = ", allocated at " + where
	}
	if where := engine.Outside(free); where != "" {
		s += ", freed at " + where
	}
	return s
}

const (
	kindDoubleFree  = "double free"
	kindUseAfter    = "use after free"
	kindInterior    = "interior pointer"
	kindUnaligned   = "unaligned pointer"
	kindForeign     = "not hakmem's"
	kindNever       = "never allocated"
	kindArena       = "arena memory"
	kindWasArena    = "memory of a closed arena"
	kindOverflow    = "buffer overflow"
	kindUnderflow   = "buffer underflow"
	kindWritten     = "write after free"
	kindClosedHeap  = "closed heap"
	kindCopiedHeap  = "copied heap"
	kindUnmadeHeap  = "unmade heap"
	kindClosedArena = "closed arena"
	kindCopiedArena = "copied arena"
)

var remedies = map[string]string{
	kindClosedInterner: "do not use an Interner after Close",
	kindUnmadeInterner: "an Interner must be made by NewInterner",

	kindDoubleFree:  "the block is not allocated: free each block once",
	kindUseAfter:    "the block is not allocated: keep it until the last use",
	kindInterior:    "pass the pointer that the allocation returned",
	kindUnaligned:   "pass the pointer that the allocation returned",
	kindForeign:     "pass only pointers that hakmem returned",
	kindNever:       "pass the pointer that the allocation returned: this address was never one",
	kindArena:       "an Arena's memory is freed by its Reset or Close",
	kindWasArena:    "an Arena's memory is freed by its Close: do not free it, and do not use it afterwards",
	kindOverflow:    "keep to the bytes asked for, here and in the block before",
	kindUnderflow:   "keep to the bytes asked for",
	kindWritten:     "do not use a block after its free: HAKMEM_TRACE tells who had it",
	kindCopiedHeap:  "a Heap must not be copied: pass the *Heap on",
	kindClosedHeap:  "do not use a Heap after Close",
	kindUnmadeHeap:  "a Heap must be made by NewHeap",
	kindClosedArena: "do not use an Arena after Close",
	kindCopiedArena: "an Arena must not be copied: pass the *Arena on",
	kindClosedMap:   "do not use a map after Close",
	kindCopiedMap:   "a map must not be copied: pass a pointer to it on",
	kindClosedOwner: "do not use an Owner after Close",
	kindCopiedOwner: "an Owner must not be copied: pass a pointer to it on",
	kindNotOwners:   "the block is live, but it was not allocated through this Owner: free it where it was allocated",
	kindStaleRef:    "what it referred to was freed: drop each Ref with its last use, or ask TryGet",
	kindNilRef:      "the zero Ref refers to nothing: compare it with 0 first",
}

// kindOf is what the error of a finding says, by the finding's kind.
var kindOf = [...]string{
	engine.Freed:          kindUseAfter, // or kindDoubleFree: see misuse
	engine.LateFreed:      kindDoubleFree,
	engine.Interior:       kindInterior,
	engine.Unaligned:      kindUnaligned,
	engine.Foreign:        kindForeign,
	engine.NeverAllocated: kindNever,
	engine.InArena:        kindArena,
	engine.WasArena:       kindWasArena,
	engine.Overflow:       kindOverflow,
	engine.Underflow:      kindUnderflow,
	engine.UsedFreed:      kindUseAfter,
	engine.WrittenFreed:   kindWritten,
}

// misuse turns a finding of the engine into the error of operation op.
func misuse(op string, f engine.Finding) *MisuseError {
	e := &MisuseError{Op: op, Kind: kindOf[f.Kind], Addr: uintptr(f.Addr), Block: uintptr(f.Block), Class: uintptr(f.Class),
		Offset: uintptr(f.Offset), Late: f.Freed(), AllocStack: f.AllocStack, FreeStack: f.FreeStack}
	if f.Kind == engine.Freed && (op == "Free" || op == "Heap.Free") {
		e.Kind = kindDoubleFree
	}
	return e
}

// OutOfMemoryError is the value of the panic with which the []byte and typed functions,
// [Arena.Alloc] and [NewHeap] end where [Malloc] would return nil. The program may recover and go
// on.
type OutOfMemoryError struct {
	// Size is the number of bytes asked for, or the largest uintptr if the request does not fit
	// one. For NewHeap it is the size of a Heap's tables.
	Size uintptr
	// Reason is what refused the memory: a limit, the end of the region, or the system. It is nil
	// if the request is more than any machine has.
	Reason error
}

func (e *OutOfMemoryError) Error() string {
	s := fmt.Sprintf("hakmem: out of memory: no block of %d bytes", e.Size)
	if e.Size == ^uintptr(0) {
		s = "hakmem: out of memory: the size asked for does not fit an address"
	}
	switch {
	case e.Reason != nil:
		return s + ": " + e.Reason.Error()
	case e.Size > engine.MostMemory:
		return s + "; ask for less: no machine has as much"
	default:
		return s + "; free blocks, or raise what limits memory"
	}
}

// Unwrap returns Reason.
func (e *OutOfMemoryError) Unwrap() error { return e.Reason }

func outOfMemory(size uintptr) *OutOfMemoryError {
	return &OutOfMemoryError{Size: size, Reason: engine.Refusal(mem.Bytes(size))}
}
