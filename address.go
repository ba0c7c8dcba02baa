package hakmem

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
)

// This file answers questions about an address that may be anything.

// Owns reports whether p points into a live block, or into the memory of an open [Arena]. It need not be
// the beginning: for blocks of every kind and size the answer is the same for each byte of the block, also
// of those that the allocation added to what was asked for, up to the size of the block (see [GoodSize]). It is
// false for blocks that were freed, for those of a closed Arena, for nil, and for memory that is not
// hakmem's: the Go heap, stacks, variables, other mappings, and addresses at which there is nothing.
//
// p may be any pointer; Owns never panics and does not read what p points to. It reads a few words of
// hakmem's tables, and takes a lock only where HAKMEM_GUARD guards blocks. Any goroutine may call it. For a
// block that another goroutine allocates or frees meanwhile, the answer may be either. [Foreign] tells
// pointers of other allocators from those to blocks that were freed.
//
// An address that was freed and allocated again is owned again: Owns does not know whose pointer it was.
// Programs built with the tag hakmem_nolive do not record which blocks are alive, and Owns takes all blocks
// of their slabs for live ones.
func Owns(p unsafe.Pointer) bool { return engine.Owns(mem.Addr(p)) }

// Foreign reports whether p is an address that hakmem never hands out: of the Go heap, of a stack, of a variable, of
// memory that another allocator has mapped, nil. It is false for all of hakmem's memory, and so for pointers to
// blocks that are live or were freed and into the middle of them. A program that gets pointers from several allocators
// asks Foreign which ones to give to [Free]; so Free panics for a block that was freed already, where
// !Owns(p) would take it for a foreign one.
//
// p may be any pointer; Foreign never panics and does not read what p points to. Any goroutine may call it.
func Foreign(p unsafe.Pointer) bool { return engine.IsForeign(mem.Addr(p)) }

// Pointer turns an address in a live block, or in the memory of an open [Arena], into a pointer. It is the
// way back for programs that keep the addresses of blocks as numbers, in data structures without pointers:
// go vet reports unsafe.Pointer(addr), and programs built with -race and the tag hakmem_racetrack stop there.
// 0 gives nil.
//
// Any other address, by the rules of [Owns], panics with a [*MisuseError]. So an address of a block that was
// freed is found here, as long as no other block has it. Any goroutine may call it.
func Pointer(addr uintptr) unsafe.Pointer {
	if addr != 0 && !engine.Owns(mem.Addr(addr)) {
		bad := engine.Look(mem.Addr(addr)).Finding
		if bad.Kind == engine.OK { // it is a live block's by now
			bad.Kind = engine.Freed
		}
		panic(misuse("Pointer", bad))
	}
	return engine.Pointer(engine.Block(addr))
}

// ExplainAddress returns a line about what hakmem knows of an address: whether it is in a block, live or
// freed, the block's size, its site, how far from its beginning the address is, and where it was allocated and
// freed, as far as that is recorded; or whether it is in a page that guards a block (HAKMEM_GUARD), in a page
// whose memory was returned, elsewhere in hakmem's region, or not hakmem's.
//
// It is for faults that a program catches itself: in a goroutine that has called [debug.SetPanicOnFault], the
// runtime.Error of a fault has a method Addr. [CatchFaults] does the same for faults in guarded blocks.
//
// addr may be any number. ExplainAddress takes locks of the allocator for a moment and uses Go memory. Any
// goroutine may call it; while others allocate and free, the line is about some moment of the call.
//
// [debug.SetPanicOnFault]: https://pkg.go.dev/runtime/debug#SetPanicOnFault
func ExplainAddress(addr uintptr) string {
	x := engine.Look(mem.Addr(addr))
	what := "a block"
	switch {
	case x.Arena:
		what = "a chunk of an Arena"
	case x.Guarded:
		what = "a guarded block"
	}
	block := fmt.Sprintf("%s of %d bytes at %#x", what, x.Class, uintptr(x.Block))
	var b strings.Builder
	fmt.Fprintf(&b, "hakmem: address %#x: ", addr)
	switch {
	case x.Live:
		fmt.Fprintf(&b, "byte %d of %s, which is live", x.Offset, block)
	case x.Kind == engine.Underflow:
		fmt.Fprintf(&b, "byte -%d, before %s", x.Offset, block)
	case x.Kind == engine.Overflow:
		fmt.Fprintf(&b, "byte %d, behind the end of %s", x.Offset, block)
	case x.Kind == engine.WasArena:
		fmt.Fprintf(&b, "byte %d of %s, which was closed", x.Offset, block)
	case x.Guarded && x.Block != 0:
		fmt.Fprintf(&b, "byte %d of %s, which was freed", x.Offset, block)
	case x.Block != 0:
		fmt.Fprintf(&b, "byte %d of %s, which is not allocated: it was freed, or never handed out", x.Offset, block)
	case x.Guarded:
		b.WriteString("in the range of guarded blocks, where there has been none")
	case x.Table:
		b.WriteString("in hakmem's own tables")
	case x.Reserved:
		b.WriteString("in the part of hakmem's region that has not been used")
	case x.Kind == engine.Foreign:
		b.WriteString("not in memory that hakmem hands out")
	default:
		b.WriteString("in hakmem's region, where there is no block: the last one was freed, or there was none")
	}
	if x.Returned {
		b.WriteString("; its memory went back to the system")
	}
	if x.Site != 0 {
		name, _, _ := site.Read(x.Site)
		fmt.Fprintf(&b, ", site %q", name)
	}
	b.WriteString(stacksOf(x.AllocStack, x.FreeStack))
	return b.String()
}
