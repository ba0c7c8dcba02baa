package hakmem

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// What the slow paths do while calls are watched: for a trace (trace.go), for the
// record of stacks (internal/engine/record.go), or both. Every allocation passes
// handOut and every free passes freeBlock or freeChunk; a Realloc passes
// watchInPlace or watchMoved.

// handOut turns the block at p, which an allocation is about to return, into a
// pointer. It tells who watches; p may be 0.
func handOut(op byte, p engine.Block, size mem.Bytes, align uintptr) unsafe.Pointer {
	if p != 0 && engine.Watched() {
		if engine.Watching(engine.WatchStacks) {
			engine.Record(p)
		}
		if engine.Watching(engine.WatchCalls) {
			trace.add(op, p, size, align)
		}
	}
	return engine.Pointer(p)
}

// freeBlock is engine.Free, watched if calls are.
func freeBlock(own engine.Front, p engine.Block) engine.Finding {
	if !engine.Watched() {
		return engine.Free(own, p)
	}
	return watchedFree(own, p, 'f', p, 0)
}

// watchInPlace tells of a Realloc of the block at p that left it where it is: its
// record stays that of the allocation.
func watchInPlace(p engine.Block, size mem.Bytes) {
	if engine.Watching(engine.WatchCalls) {
		trace.add('r', p, size, uintptr(p))
	}
}

// watchMoved frees the block at old for a Realloc that moved it to p, and tells of
// both.
func watchMoved(own engine.Front, old, p engine.Block, size mem.Bytes) engine.Finding {
	if engine.Watching(engine.WatchStacks) {
		engine.Record(p)
	}
	return watchedFree(own, old, 'r', p, size)
}

// watchedFree frees the block at old and tells of op for block p: of the free
// itself, or of the Realloc that moved old to p.
func watchedFree(own engine.Front, old engine.Block, op byte, p engine.Block, size mem.Bytes) engine.Finding {
	if !engine.Watching(engine.WatchCalls) {
		return forget(own, old)
	}
	who := pid()
	t := &trace
	t.mu.Lock()
	defer t.mu.Unlock()
	bad := forget(own, old)
	if bad.Kind == engine.OK || bad.Freed() { // late is another block's misuse: old is freed
		t.line(who, op, p, size, uintptr(old))
	}
	return bad
}

// forget frees the block at p, and its record if there may be one.
func forget(own engine.Front, p engine.Block) engine.Finding {
	if engine.Watching(engine.WatchStacks) {
		return engine.FreeRecorded(own, p)
	}
	return engine.Free(own, p)
}

// freeChunk is engine.FreeChunk, watched if calls are.
func freeChunk(p engine.Block) {
	free := engine.FreeChunk
	if engine.Watching(engine.WatchStacks) {
		free = engine.FreeChunkRecorded
	}
	if !engine.Watching(engine.WatchCalls) {
		free(p)
		return
	}
	who := pid()
	trace.mu.Lock()
	defer trace.mu.Unlock()
	free(p)
	trace.line(who, 'f', p, 0, 0)
}
