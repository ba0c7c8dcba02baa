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
)

// Fault describes a misuse, found before anything was changed (but for
// LateFreed, whose copy was dropped). The zero Fault is none.
type Fault struct {
	Kind  Kind
	Addr  uintptr // the pointer given
	Block uintptr // start of the block it lies in, when there is one
	Class uintptr // size of that block, or 0
}
