package engine

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/profile"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The profile of allocations (HAKMEM_PROFILE_RATE): which blocks are its samples, and what they are counted for.
// Package profile has the books and says why they are right.
//
// Each front has a word with the bytes that remain until its next sample (profileWord), which belongs to whoever
// has entered with the front. A fast section of its own (road_amd64.h), or the pinned road, subtracts from it what
// it hands out; it goes to the slow path with a block that would take the word below 0. Each slow path looks at the
// word when it has allocated (drawProfile). So each block is counted exactly once, with the bytes of its class.
//
// The free of a sample has to be seen, whoever frees it. So a sample has liveWatched as its live state, or
// liveSited if it has a site. Its free comes to a slow path, which ends the sample before anybody else can get the
// address (endDrawn).
//
// A Realloc that leaves the block where it is and changes its size frees a block of the old size, and allocates one
// of the new size, as one that moves does. A sample of the old size that was simply counted as one of the new size
// would stand for too few or too many blocks: samples are drawn by size.

// profiled has the samples that are live, and the buckets of all. table is nil before the first sample.
var profiled struct {
	check.Mutex[check.Profiled]
	table  *profile.Table
	blocks map[Block]drawn
	path   [profileDepth]uintptr // of the sample that is being added
	stacks uint64                // how many samples needed runtime.Callers
}

// drawn is a sample that is live.
type drawn struct {
	bucket *profile.Bucket
	since  time.Duration // the clock's time when it was allocated
}

// drawnMarks counts, for each hash of an address, the samples with that hash. The holder of a block reads it
// without the lock, to see whether its block may be a sample. At 512 KiB a sample, the samples of 8 GiB have a
// quarter of the places. The array costs no memory while there is no profile.
var drawnMarks [1 << drawnBits]atomic.Int32

const drawnBits = 16

func drawnMark(p Block) *atomic.Int32 {
	// Multiples of the golden ratio, as in sampleAt.
	return &drawnMarks[uint64(p>>granuleShift)*0x9E3779B97F4A7C15>>(64-drawnBits)]
}

// mayBeDrawn reports whether the block at p, which the caller holds, may be a sample of the profile.
func mayBeDrawn(p Block) bool { return profiling() && drawnMark(p).Load() != 0 }

// profileDepth is how many frames of a stack are kept, as many as Go's own profile keeps (GODEBUG profstackdepth).
const profileDepth = 128

// drawProfile counts the block at p, of n bytes and of a site (0: none), which is about to be handed out, and makes
// it a sample of the profile if it is due. Not entered; the caller holds the block, and has asked profiling.
func drawProfile(own Front, p Block, n mem.Bytes, s site.ID) {
	check.MustNotBeEntered("drawProfile")
	if dueProfile(own, n) {
		addDrawn(p, n, s)
	}
}

// dueProfile counts n bytes and reports whether a front's next sample is due; if so it draws the gap to the one
// after it.
func dueProfile(own Front, n mem.Bytes) bool {
	f, tok := enter(own)
	if f == trapFront { // which is nobody's. The distribution has no memory, so any gap will do
		leave(tok)
		return profileGap()-int64(n) < 0
	}
	w := f.profileWord()
	*w -= int64(n)
	due := *w < 0
	if due {
		*w = profileGap()
	}
	leave(tok)
	return due
}

// addDrawn makes the block at p a sample.
//
//go:noinline
func addDrawn(p Block, n mem.Bytes, s site.ID) {
	if IsCaller(s) {
		s = 0 // the stack says it, and other samples of the same stack have no site
	}
	MarkWatched(p)
	d := &profiled
	d.Lock()
	defer d.Unlock()
	if d.table == nil {
		d.table, d.blocks = profile.NewTable(ProfileRate(), ownFunction, sizeclass.MaxMid), map[Block]drawn{}
	}
	path := d.path[:frames(d.path[:])]
	b := d.table.Known(path, n, s)
	if b == nil {
		b = newBucket(n, s)
		d.table.Know(path, b)
	}
	d.table.Alloc(b)
	d.blocks[p] = drawn{b, elapsed()}
	drawnMark(p).Add(1)
}

// newBucket returns the bucket of samples of n bytes and of a site, for the stack of addDrawn's caller. Under profiled.
//
//go:noinline
func newBucket(n mem.Bytes, s site.ID) *profile.Bucket {
	var pcs [profileDepth]uintptr
	profiled.stacks++
	return profiled.table.Bucket(pcs[:runtime.Callers(3, pcs[:])], n, s)
}

// endDrawn notes that the block at p is freed, if it is a sample. Not entered; the caller holds the block and has
// not given it back yet.
func endDrawn(p Block) {
	check.MustNotBeEntered("endDrawn")
	if !mayBeDrawn(p) {
		return
	}
	d := &profiled
	d.Lock()
	defer d.Unlock()
	if x, yes := d.blocks[p]; yes { // not if another block has the same mark, or if two frees overlap
		delete(d.blocks, p)
		d.table.Free(x.bucket)
		drawnMark(p).Add(-1)
	}
}

// ReadProfile returns the samples of the profile as they are now, or as they were when they stood for the most live
// bytes. Not entered.
func ReadProfile(atPeak bool) []profile.Sample {
	check.MustNotBeEntered("ReadProfile")
	d := &profiled
	d.Lock()
	defer d.Unlock()
	switch {
	case d.table == nil:
		return nil
	case atPeak:
		return d.table.AtPeak()
	}
	return d.table.Now()
}

// ReadHeld divides memory that is free and held among the stacks whose blocks were freed last (profile.Table.Held).
// bytes says how much there is of the blocks of each class, and of all that are larger for 0. Not entered.
func ReadHeld(bytes func(size mem.Bytes) int64) []profile.Held {
	check.MustNotBeEntered("ReadHeld")
	d := &profiled
	d.Lock()
	defer d.Unlock()
	if d.table == nil {
		return nil
	}
	return d.table.Held(bytes)
}
