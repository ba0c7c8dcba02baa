package engine

import (
	"errors"
	"fmt"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// Some systems charge a process for memory that it may touch, whether it does so or not (Linux with
// vm.overcommit_memory = 2). There the memory of a free chunk that was returned is still charged,
// because the chunk is still committed. Trim uncommits such chunks. A chunk whose memory is not
// committed is away: all its pages are in lost, so nobody finds them, until bringBack commits it
// again. region.mu owns the state. A chunk that is being uncommitted is not away yet: its pages are in
// lost, and it belongs to the goroutine that does it.

// Each run of chunks that are away divides the mappings of the blocks, the live map, the bitmaps and
// the site map, of which a process may have 65,530. Runs of manyAway chunks, 32 MiB, are uncommitted
// whatever there is: a terabyte of runs and gaps of that length stays within a third of the mappings.
// Shorter ones are uncommitted up to fewRuns of them, which take an eighth.
const (
	manyAway = 16
	fewRuns  = 1024
)

// chunksAway is the number of chunks that are away. Owned by region.mu.
var chunksAway int

// uncommitFree uncommits the chunks that are free and clean. Not entered.
func uncommitFree() {
	check.MustNotBeEntered("uncommitFree")
	if tracked || !osmem.KeepsReadable {
		return // the memory is Go's, or a stray pointer would fault
	}
	left := fewRuns
	for c := region.firstChunk(); c < region.endChunk(); {
		run, n := takeIdle(c, left > 0)
		if run.from == run.to {
			c += n
			continue
		}
		left--
		var err error
		for i, r := range run.memory() {
			// A free of a stray pointer still reads the metadata.
			if err = osmem.Uncommit(r.Addr, r.Size, i > 0); err != nil {
				survive(fmt.Errorf("hakmem: uncommit of free pages: %w", err))
				break
			}
		}
		region.mu.Lock()
		run.goAway()
		if err != nil {
			_ = run.commit() // if it fails the chunks stay away
		} else {
			run.uncountTables()
		}
		region.mu.Unlock()
		c = run.to
	}
}

// takeIdle takes the chunks from c on that are free and clean out of use, if they are enough. few says
// that less than manyAway chunks are. It returns them, or how many chunks there are up to the next to
// look at.
func takeIdle(c chunkNo, few bool) (run chunkRun, skip chunkNo) {
	region.mu.Lock()
	defer region.mu.Unlock()
	run = chunkRun{c, c}
	for end := region.endChunk(); run.to < end && super(run.to).idle(); {
		run.to++
	}
	if n := run.to - run.from; n == 0 || n < manyAway && !few {
		return chunkRun{}, max(n, 1)
	}
	for c := run.from; c < run.to; c++ {
		s := super(c)
		s.free, s.lost = 0, ^pageSet(0)
	}
	tree.update(run.from, run.to-1)
	return run, 0
}

// goAway notes that chunks that takeIdle took are uncommitted, at least in part. From here on whoever
// needs memory may bring them back. Under region.mu.
func (c chunkRun) goAway() {
	check.MustHold(&region.mu, "goAway")
	for i := c.from; i < c.to; i++ {
		super(i).away = true
	}
	chunksAway += int(c.to - c.from)
}

// idle reports whether the chunk is wholly free and has no memory.
func (s *superMeta) idle() bool {
	return s.free == ^pageSet(0) && s.dirty|s.tiny|s.lost == 0 && !s.isSlabs && !s.smallPages
}

// memory lists the memory of the chunks: first that of the blocks, then the metadata that is large
// enough to matter. Page table entries stay: they say that the pages are free.
func (c chunkRun) memory() []osmem.Range {
	r := &region
	pages := pageCount(c.to-c.from) * superPages
	ranges := []osmem.Range{{Addr: c.from.addr(), Size: pages.bytes()}}
	for _, a := range []*area{&r.live, &r.bits, &r.sites} {
		if a.inUse() {
			ranges = append(ranges, osmem.Range{Addr: a.base.Add(a.of(pageCount(c.from.page()))), Size: a.of(pages)})
		}
	}
	return ranges
}

// uncountTables notes that the chunks' tables have no memory, except for the page table. Under
// region.mu.
func (c chunkRun) uncountTables() {
	check.MustHold(&region.mu, "uncountTables")
	for i := c.from; i < c.to; i++ {
		s := super(i)
		uncount((s.tables & tableBitmap).bytes() + s.unsite(^pageSet(0)))
		s.tables &^= tableBitmap
	}
}

// bringBack commits chunks that are away, as many as hold n bytes, if so many lie side by side. It
// reports whether it did. Under region.mu.
func bringBack(n mem.Bytes) bool {
	check.MustHold(&region.mu, "bringBack")
	if chunksAway == 0 {
		return false
	}
	want := chunkNo(n.Up(superSize) >> superShift)
	run := chunkNo(0)
	for c := region.firstChunk(); c < region.endChunk(); c++ {
		if run++; !super(c).away {
			run = 0
		} else if run == want {
			err := chunkRun{c + 1 - want, c + 1}.commit()
			if err != nil {
				_ = region.refuse(fmt.Errorf("hakmem: commit of %d bytes: %w: free blocks, or raise what the system allows the process", uint64(n), err))
			}
			return err == nil
		}
	}
	return false
}

// commit commits chunks that are away. If it fails they stay away. Under region.mu.
func (c chunkRun) commit() (err error) {
	check.MustHold(&region.mu, "commit")
	for _, r := range c.memory() {
		err = errors.Join(err, osmem.Commit(r.Addr, r.Size))
	}
	if err != nil {
		return err
	}
	for i := c.from; i < c.to; i++ {
		s := super(i)
		s.free, s.lost, s.away = ^pageSet(0), 0, false
	}
	chunksAway -= int(c.to - c.from)
	tree.update(c.from, c.to-1)
	return nil
}
