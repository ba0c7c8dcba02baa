package hakmem

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file is what the slow paths do while calls are watched: for a trace (trace.go), for the
// record of stacks (internal/engine/record.go), or for both. Every allocation passes through
// handOut, every free through freeBlock or freeChunk, and a Realloc through watchInPlace or
// watchMoved.

// handOut turns p, the block that an allocation is about to return, into a pointer. While calls are
// watched it reports the allocation. p may be 0.
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

// freeBlock is engine.Free, which is reported while calls are watched.
func freeBlock(own engine.Front, p engine.Block) engine.Finding {
	if !engine.Watched() {
		return engine.Free(own, p)
	}
	return watchedFree(func() engine.Finding { return engine.Free(own, p) }, p, 'f', p, 0)
}

// watchInPlace reports a Realloc that left the block at p where it is. The record of the block's
// stack remains that of the allocation.
func watchInPlace(p engine.Block, size mem.Bytes) {
	if engine.Watching(engine.WatchCalls) {
		trace.add('r', p, size, uintptr(p))
	}
}

// watchMoved calls free, which frees the block at old, for a Realloc that moved it to p, and reports
// both.
func watchMoved(free func() engine.Finding, old, p engine.Block, size mem.Bytes) engine.Finding {
	if engine.Watching(engine.WatchStacks) {
		engine.Record(p)
	}
	return watchedFree(free, old, 'r', p, size)
}

// watchedFree calls free, which frees the block at old, and reports operation op on block p: the free
// itself, or the Realloc that moved old to p.
func watchedFree(free func() engine.Finding, old engine.Block, op byte, p engine.Block, size mem.Bytes) engine.Finding {
	if !engine.Watching(engine.WatchCalls) {
		return forget(free, old)
	}
	who := pid()
	t := &trace
	t.mu.Lock()
	defer t.mu.Unlock()
	bad := forget(free, old)
	if bad.Kind == engine.OK || bad.Freed() { // Freed: a late finding is of another block
		t.line(who, op, p, size, uintptr(old))
	}
	return bad
}

// forget calls free, which frees the block at p, and ends the record of its stack if stacks are
// recorded.
func forget(free func() engine.Finding, p engine.Block) engine.Finding {
	if engine.Watching(engine.WatchStacks) {
		return engine.FreeRecorded(free, p)
	}
	return free()
}

// freeChunk is engine.FreeChunk, which is reported while calls are watched.
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
