package heap

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
func (f *Fault) Freed() bool { return f.Kind == LateFreed || f.Kind == WrittenFreed }

// Fault describes a misuse, found before anything was changed (but for
// LateFreed, whose copy was dropped). The zero Fault is none.
type Fault struct {
	Kind  Kind
	Addr  uintptr // the pointer given
	Block uintptr // start of the block it lies in, when there is one
	Class uintptr // size of that block, or 0
	// Offset is how far from Block the first byte lies that was touched: of
	// Overflow, Underflow (before it), UsedFreed and WrittenFreed.
	Offset uintptr
	// AllocStack and FreeStack are those of a guarded block, as runtime.Callers
	// gives them.
	AllocStack, FreeStack []uintptr
}
