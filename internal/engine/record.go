package engine

import (
	"fmt"
	"path"
	"runtime"
	"unsafe"

	"github.com/hakmem/hakmem/internal/check"
)

// The record of allocations: for each block that was allocated while somebody records, the stack of
// the call. It is made of Go memory and lies outside the blocks. Recorded blocks are marked
// (MarkWatched), so that whoever frees one comes to a slow path. There the free and the end of the
// record are one step under the lock, so the next allocation of the address records after it.
var records struct {
	check.Mutex[check.Records] // taken before any lock of the allocator, after that of a trace
	on                         bool
	seq                        uint64
	blocks                     map[Block]record
	stacks                     map[string][]uintptr // each stack once, by its bytes
}

type record struct {
	stack []uintptr
	seq   uint64 // the number of the allocation, from 1
}

// recorders counts the StartRecordings that are not stopped yet. Its lock is taken before that of
// records.
var recorders struct {
	check.Mutex[check.Recorders]
	n int
}

// maxStack is how many frames of a stack are recorded.
const maxStack = 48

// StartRecording records the stack of every allocation until StopRecording has been called once for
// each StartRecording. It returns the number of the last allocation that was recorded; later ones
// have higher Seq. Not entered; it stops the world.
func StartRecording() (seq uint64) {
	check.MustNotBeEntered("StartRecording")
	recorders.Lock()
	defer recorders.Unlock()
	if recorders.n++; recorders.n == 1 {
		records.Lock()
		records.on = true
		records.blocks, records.stacks = map[Block]record{}, map[string][]uintptr{}
		records.Unlock()
		Watch(WatchStacks, true)
	}
	records.Lock()
	defer records.Unlock()
	return records.seq
}

// StopRecording ends one StartRecording. With the last one the record is dropped.
func StopRecording() {
	recorders.Lock()
	defer recorders.Unlock()
	if recorders.n--; recorders.n == 0 {
		records.Lock()
		records.on, records.blocks, records.stacks = false, nil, nil
		records.Unlock()
		Watch(WatchStacks, false)
	}
}

// Record records the caller's stack for the block at p, or the chunk of an Arena, which the caller
// is about to hand out. Not entered.
func Record(p Block) {
	check.MustNotBeEntered("Record")
	var pcs [maxStack]uintptr
	n := runtime.Callers(2, pcs[:])
	r := &records
	r.Lock()
	defer r.Unlock()
	if !r.on {
		return
	}
	key := unsafe.Slice((*byte)(unsafe.Pointer(&pcs)), n*int(unsafe.Sizeof(pcs[0])))
	stack, ok := r.stacks[string(key)]
	if !ok {
		stack = outside(append([]uintptr(nil), pcs[:n]...))
		r.stacks[string(key)] = stack
	}
	r.seq++
	r.blocks[p] = record{stack, r.seq}
	MarkWatched(p)
}

// FreeRecorded calls free, which frees the block at p, and ends the block's record.
func FreeRecorded(free func() Finding, p Block) Finding {
	r := &records
	r.Lock()
	defer r.Unlock()
	bad := free()
	if bad.Kind == OK || bad.Freed() { // a late finding is another block's misuse: p is freed
		delete(r.blocks, p)
	}
	return bad
}

// FreeChunkRecorded is FreeChunk, and ends the chunk's record.
func FreeChunkRecorded(p Block) {
	r := &records
	r.Lock()
	defer r.Unlock()
	FreeChunk(p)
	delete(r.blocks, p)
}

// outside cuts hakmem's own frames off the front of a stack. runtime.Callers gives one counter for
// each frame, inlined ones too.
func outside(stack []uintptr) []uintptr {
	frames := runtime.CallersFrames(stack)
	for n := range stack {
		f, more := frames.Next()
		if !Own(f.Function) {
			return stack[n:]
		}
		if !more {
			break
		}
	}
	return stack
}

// Outside returns file:line of the frame that called hakmem, or "" for an empty stack.
func Outside(stack []uintptr) string {
	if len(stack) == 0 {
		return ""
	}
	f, _ := runtime.CallersFrames(outside(stack)).Next()
	return fmt.Sprintf("%s:%d", path.Base(f.File), f.Line)
}
