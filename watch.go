package hakmem

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/heap"
	"github.com/hakmem/hakmem/internal/mem"
)

// What the slow paths do while calls are watched: for a trace (trace.go), for the
// record of stacks (internal/heap/record.go), or both. Every allocation passes
// handOut and every free passes freeBlock or freeChunk; a Realloc passes
// watchInPlace or watchMoved.

// handOut turns the block at p, which an allocation is about to return, into a
// pointer. It tells who watches; p may be 0.
func handOut(op byte, p heap.Block, size mem.Bytes, align uintptr) unsafe.Pointer {
	if p != 0 && heap.Watched() {
		if heap.Watching(heap.WatchStacks) {
			heap.Record(p)
		}
		if heap.Watching(heap.WatchCalls) {
			trace.add(op, p, size, align)
		}
	}
	return heap.Pointer(p)
}

// freeBlock is heap.Free, watched if calls are.
func freeBlock(own heap.Front, p heap.Block) heap.Fault {
	if !heap.Watched() {
		return heap.Free(own, p)
	}
	return watchedFree(own, p, 'f', p, 0)
}

// watchInPlace tells of a Realloc of the block at p that left it where it is: its
// record stays that of the allocation.
func watchInPlace(p heap.Block, size mem.Bytes) {
	if heap.Watching(heap.WatchCalls) {
		trace.add('r', p, size, uintptr(p))
	}
}

// watchMoved frees the block at old for a Realloc that moved it to p, and tells of
// both.
func watchMoved(own heap.Front, old, p heap.Block, size mem.Bytes) heap.Fault {
	if heap.Watching(heap.WatchStacks) {
		heap.Record(p)
	}
	return watchedFree(own, old, 'r', p, size)
}

// watchedFree frees the block at old and tells of op for block p: of the free
// itself, or of the Realloc that moved old to p.
func watchedFree(own heap.Front, old heap.Block, op byte, p heap.Block, size mem.Bytes) heap.Fault {
	if !heap.Watching(heap.WatchCalls) {
		return forget(own, old)
	}
	who := pid()
	t := &trace
	t.mu.Lock()
	defer t.mu.Unlock()
	bad := forget(own, old)
	if bad.Kind == heap.OK || bad.Freed() { // late is another block's misuse: old is freed
		t.line(who, op, p, size, uintptr(old))
	}
	return bad
}

// forget frees the block at p, and its record if there may be one.
func forget(own heap.Front, p heap.Block) heap.Fault {
	if heap.Watching(heap.WatchStacks) {
		return heap.FreeRecorded(own, p)
	}
	return heap.Free(own, p)
}

// freeChunk is heap.FreeChunk, watched if calls are.
func freeChunk(p heap.Block) {
	free := heap.FreeChunk
	if heap.Watching(heap.WatchStacks) {
		free = heap.FreeChunkRecorded
	}
	if !heap.Watching(heap.WatchCalls) {
		free(p)
		return
	}
	who := pid()
	trace.mu.Lock()
	defer trace.mu.Unlock()
	free(p)
	trace.line(who, 'f', p, 0, 0)
}
