package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// printMessages prints a message for each kind of misuse and each function.
func printMessages(w io.Writer) error {
	debug.SetGCPercent(-1) // see try
	done := make(chan struct{})
	go func() {
		defer close(done)
		growStack(128)
		for _, m := range messages() {
			fmt.Fprintln(w, m)
		}
	}()
	<-done
	return nil
}

// messages provokes every message that the settings of this process allow.
func messages() (all []string) {
	say := func(do func()) {
		v := panicOf(func() { hakmem.CatchFaults(do) })
		err, _ := v.(error)
		var m *hakmem.MisuseError
		if errors.As(err, &m) {
			all = append(all, replaced(m))
			return
		}
		all = append(all, fmt.Sprint(v))
	}
	h := hakmem.NewHeap()
	takers := []func(p uintptr){
		func(p uintptr) { hakmem.Free(ptr(p)) },
		func(p uintptr) { h.Free(ptr(p)) },
		func(p uintptr) { hakmem.FreeBytes(unsafe.Slice((*byte)(ptr(p)), 1)) },
		func(p uintptr) { hakmem.FreeSlice(unsafe.Slice((*int8)(ptr(p)), 1)) },
		func(p uintptr) { hakmem.Delete((*bool)(ptr(p))) },
		func(p uintptr) { hakmem.UsableSize(ptr(p)) },
		func(p uintptr) { hakmem.Realloc(ptr(p), 1000) },
		func(p uintptr) { h.Realloc(ptr(p), 1000) },
	}
	give := func(p uintptr) {
		for _, take := range takers {
			say(func() { take(p) })
		}
	}
	live := func(size uintptr) uintptr { return addr(hakmem.Malloc(size)) }
	freed := func(size uintptr) uintptr {
		p := live(size)
		hakmem.Free(ptr(p))
		return p
	}
	switch {
	case hardened():
		p := live(48)
		change(p+50, 1)
		give(p)
		for _, c := range []struct {
			free func(unsafe.Pointer)
			find func()
		}{
			{hakmem.Free, hakmem.Trim},
			{h.Free, func() {
				for range 2000 {
					h.Free(h.Malloc(64))
				}
			}},
		} {
			p := live(100)
			c.free(ptr(p))
			change(p+10, 1)
			say(c.find)
		}
		say(func() { // one call for all frees, so that they use one quarantine
			for i := range 2000 {
				p := live(100)
				hakmem.Free(ptr(p))
				if i == 0 {
					change(p+10, 1)
				}
			}
		})
		return all
	case guarded():
		page := uintptr(os.Getpagesize())
		at := func(side uintptr) uintptr { // returns a block at that side of its page
			for {
				if p := live(64); (p+side)%page == 0 {
					return p
				}
			}
		}
		p := at(0)
		change(p+70, 1)
		give(p) // which finds the damaged canary in its page
		p = at(64)
		change(p-3, 1)
		give(p)
		give(freed(64))
		p = at(64)
		say(func() { read(p + 64) })
		say(func() { write(p+65, 1) })
		p = at(0)
		say(func() { read(p - 1) })
		p = freed(64)
		say(func() { read(p + 7) })
		say(func() { write(p+8, 1) })
		return all
	}
	for _, size := range []uintptr{48, 4096, 256 << 10} {
		give(freed(size))
		give(live(size) + 16)
		give(live(size) + 1)
	}
	give(addr(unsafe.Pointer(&global)))
	give(inRegion() + 1<<30)
	a := hakmem.NewArena()
	arenaPiece := addr(a.Alloc(100, 16))
	give(arenaPiece)

	// Whether two frees overlap is chance, so the report of one is made here.
	for _, op := range []string{"Free", "Heap.Free", "Malloc", "Heap.Malloc", "Heap.Calloc", "Trim", "Heap.Trim", "Heap.Close"} {
		say(func() {
			panic(&hakmem.MisuseError{Op: op, Kind: "double free", Addr: 0x7f0000001000, Block: 0x7f0000001000, Class: 48, Late: true})
		})
	}

	closed := hakmem.NewHeap()
	p := closed.Malloc(48)
	closed.Close()
	say(func() { closed.Malloc(48) })
	say(func() { closed.Free(p) })
	say(func() { closed.Calloc(1, 48) })
	say(func() { closed.Realloc(p, 1000) })
	say(closed.Trim)
	say(closed.Close)
	a.Close()
	give(arenaPiece)
	say(func() { a.Alloc(8, 8) })
	say(func() { hakmem.NewIn[pair](a) })
	say(func() { hakmem.MakeSliceIn[pair](a, 1, 1) })
	say(a.Reset)
	say(a.Close)

	say(func() { hakmem.Alloc(1 << 62) })
	say(func() { hakmem.AllocZeroed(1 << 62) })
	say(func() { hakmem.MakeSlice[uint64](1<<62, 1<<62) })
	say(func() { hakmem.NewArena().Alloc(math.MaxUint, 1) })
	say(func() { panic(&hakmem.OutOfMemoryError{Size: 4096}) })
	say(func() { hakmem.Alloc(minusOne) })
	say(func() { hakmem.AllocZeroed(minusOne) })
	say(func() { hakmem.MakeSlice[uint64](2, 1) })
	say(func() { hakmem.MakeSliceIn[uint64](hakmem.NewArena(), 2, 1) })
	say(func() { hakmem.AlignedAlloc(48, 100) })
	say(func() { hakmem.AlignedRealloc(nil, 100, 48) })
	say(func() { hakmem.NewArena().Alloc(8, 3) })
	say(func() { hakmem.MallocAt(12345, 8) })
	say(func() { hakmem.New[withPointer]() })
	say(func() { hakmem.MakeSlice[any](1, 1) })
	return all
}

func panicOf(do func()) (v any) {
	defer func() { v = recover() }()
	do()
	return nil
}

// sourceLine matches a place in this program.
var sourceLine = regexp.MustCompile(`(\w+\.go):\d+`)

// replaced returns the error's text with BLOCK in place of the block's address, BLOCK+n or BLOCK-n
// in place of an address near it, and ADDR in place of any other.
func replaced(e *hakmem.MisuseError) string {
	s := sourceLine.ReplaceAllString(e.Error(), "$1:LINE")
	at := "ADDR"
	switch {
	case e.Block == 0:
	case e.Addr == e.Block:
		at = "BLOCK"
	case e.Addr > e.Block && e.Addr-e.Block < e.Class+64<<10:
		at = fmt.Sprintf("BLOCK+%d", e.Addr-e.Block)
	case e.Addr < e.Block && e.Block-e.Addr < 64<<10:
		at = fmt.Sprintf("BLOCK-%d", e.Block-e.Addr)
	}
	s = strings.ReplaceAll(s, fmt.Sprintf("(%#x)", e.Addr), "("+at+")")
	return strings.ReplaceAll(s, fmt.Sprintf("block %#x", e.Block), "block BLOCK")
}
