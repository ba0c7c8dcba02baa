// The loops of the workloads, over the observer: any allocator, observed.
//
// This file is the source of loops_*_gen.go. gen copies it for every allocator, with direct calls
// in place of those of w.obs. Where the collector need not see the block, the type of a slot
// becomes uintptr instead of unsafe.Pointer. Run go generate after a change. ../native/loops.h is
// the twin in C.
//
// What gen needs: the functions' names end in Observed. A block is declared by w.obs (p :=
// w.obs.malloc) or by reading a slot (p := slots[i]), and put into a slot as it is; in a struct,
// the field that is a slot is called block. w.obs stands in statements of its own, except for
// w.obs.data. Operands have no effects. A goroutine's first function calls w.obs.enter and
// w.obs.leave. The other functions that call w.obs are its helpers, and are given the variables
// that enter declares.

package loops

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/bench/trace"
)

// loopsObserved are the loops by name.
var loopsObserved = map[string]func(*worker){
	"alloc_test":    allocTestObserved,
	"cache_scratch": cacheScratchObserved,
	"cache_thrash":  cacheThrashObserved,
	"frag":          fragObserved,
	"glibc_simple":  glibcSimpleObserved,
	"glibc_thread":  glibcThreadObserved,
	"growth":        growthObserved,
	"larson":        larsonObserved,
	"malloc_large":  mallocLargeObserved,
	"mixed":         mixedObserved,
	"mleak":         mleakObserved,
	"mstress":       mstressObserved,
	"pages":         pagesObserved,
	"phase":         phaseObserved,
	"random_mixed":  randomMixedObserved,
	"rptest":        rptestObserved,
	"sh6bench":      sh6benchObserved,
	"sh8bench":      sh8benchObserved,
	"tape":          tapeObserved,
	"tiny_hot":      tinyHotObserved,
	"xmalloc":       xmallocObserved,
	"xmalloc_mixed": xmallocMixedObserved,
}

// allocTestObserved is alloc-test on any allocator.
func allocTestObserved(w *worker) {
	type slot struct {
		block unsafe.Pointer
		size  uintptr
	}
	ws := max(w.p.WS/uint64(w.p.Threads), 1)
	slots := make([]slot, ws+slotPad)
	clear(slots)
	base := unsafe.Pointer(unsafe.SliceData(slots))
	popular := newPareto(ws)
	x, low, high, top := w.random(), w.p.Min, w.p.Max, topLevel(w.p.Min, w.p.Max)
	total := uint64(0)
	w.idle()
	w.obs.enter()
	for i := uint64(0); i < ws; i += 2 {
		x = step(x)
		size := levelSize(x, low, high, top)
		p := w.obs.malloc(size, i)
		w.obs.fill(p, size, x)
		slots[i].block = p
		slots[i].size = size
	}
	w.begin()
	for n := w.p.Iters; n != 0; n-- {
		x = step(x)
		i := popular.slot(x)
		s := (*slot)(unsafe.Add(base, uintptr(i)*unsafe.Sizeof(slot{})))
		p := s.block
		if p != nil {
			sum := w.obs.sum(p, s.size)
			total += sum
			w.obs.free(p, i)
			s.block = nil
		} else {
			x = step(x)
			size := levelSize(x, low, high, top)
			p := w.obs.malloc(size, i)
			w.obs.fill(p, size, x)
			s.block = p
			s.size = size
		}
	}
	w.end()
	w.sum = total
	for i := range slots {
		p := slots[i].block
		if p != nil {
			w.obs.free(p, uint64(i))
		}
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// cacheScratchObserved is cache-scratch on any allocator: first one thread allocates an object for
// each thread, next to each other, and each thread frees its own; then it is cache-thrash.
func cacheScratchObserved(w *worker) {
	slots := make([]unsafe.Pointer, 1+slotPad)
	size, id := uintptr(w.p.Max), uint64(w.id)
	w.obs.enter()
	if id == 0 {
		w.shared.pointers = make([]unsafe.Pointer, w.p.Threads)
		for i := range w.shared.pointers {
			p := w.obs.malloc(size, uint64(i))
			w.obs.write(p, 0)
			w.shared.pointers[i] = p
		}
	}
	w.shared.barrier.wait()
	first := &w.shared.pointers[id]
	w.begin()
	p := *first
	w.obs.free(p, id)
	cacheTurnsObserved(w, &slots[0])
	w.end()
	w.obs.leave()
}

// cacheThrashObserved is cache-thrash on any allocator.
func cacheThrashObserved(w *worker) {
	slots := make([]unsafe.Pointer, 1+slotPad)
	w.obs.enter()
	w.begin()
	cacheTurnsObserved(w, &slots[0])
	w.end()
	w.obs.leave()
}

// cacheTurnsObserved allocates an object, writes to it again and again, and frees it, Rounds times.
//
//go:noinline
func cacheTurnsObserved(w *worker, s *unsafe.Pointer) {
	size, writes := uintptr(w.p.Max), cacheWrites(&w.p)
	for n := w.p.Rounds; n != 0; n-- {
		p := w.obs.malloc(size, 0)
		*s = p
		if writable(w) {
			bump(w.obs.data(p), writes)
		}
		w.obs.free(p, 0)
	}
}

// fragObserved is frag on any allocator. It fills WS MiB with blocks of each of fragSizes, after it
// has freed a random nine tenths of the blocks of each smaller size.
func fragObserved(w *worker) {
	goal := w.p.WS * mib
	slots := make([]unsafe.Pointer, goal/fragSizes[0]+slotPad)
	clear(slots)
	x := w.random()
	var live [len(fragSizes)]uint64
	to := uint64(0)
	w.obs.enter()
	w.begin()
	for turn, size := range fragSizes {
		from, held := uint64(0), uint64(0)
		to = 0
		for g := range turn {
			keep := live[g] / 10
			held += keep * fragSizes[g]
			left := keep
			// each block is kept with the probability left/n, so keep of them are kept in all
			for n := live[g]; n != 0; n-- {
				x = step(x)
				p := slots[from]
				slots[from] = nil
				if below(x, n) < left {
					left--
					slots[to] = p
					to++
				} else {
					w.obs.free(p, from)
				}
				from++
			}
			live[g] = keep
		}
		live[turn] = (goal - held) / size
		for range live[turn] {
			p := w.obs.malloc(uintptr(size), to)
			w.obs.write(p, 0)
			slots[to] = p
			to++
		}
	}
	w.end()
	for i := range to {
		p := slots[i]
		w.obs.free(p, i)
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// glibcSimpleObserved is glibc-simple on any allocator.
func glibcSimpleObserved(w *worker) {
	slots := make([]unsafe.Pointer, simpleCounts[len(simpleCounts)-1]+slotPad)
	clear(slots)
	w.obs.enter()
	w.begin()
	for size := w.p.Min; size <= w.p.Max; size *= 2 {
		for _, count := range simpleCounts {
			for n := simpleBatches(&w.p, count); n != 0; n-- {
				glibcSimpleBatchObserved(w, slots[:count], uintptr(size))
			}
		}
	}
	w.end()
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// glibcSimpleBatchObserved fills the slots and frees them: the lower half from the oldest on, the
// upper half from the newest on.
//
//go:noinline
func glibcSimpleBatchObserved(w *worker, slots []unsafe.Pointer, size uintptr) {
	for i := range slots {
		p := w.obs.malloc(size, uint64(i))
		w.obs.write(p, 0)
		slots[i] = p
	}
	half := uint64(len(slots)) / 2
	lower, upper := slots[:half], slots[half:]
	for i := range lower {
		p := lower[i]
		w.obs.free(p, uint64(i))
	}
	for i := len(upper) - 1; i >= 0; i-- {
		p := upper[i]
		w.obs.free(p, half+uint64(i))
	}
}

// glibcThreadObserved is glibc-thread on any allocator.
func glibcThreadObserved(w *worker) {
	ws := w.p.WS
	slots := make([]unsafe.Pointer, ws+slotPad)
	clear(slots)
	base := unsafe.Pointer(unsafe.SliceData(slots))
	table, x := inverseSquares(w.random(), w.p.Min, w.p.Max)
	sizes := unsafe.Pointer(table)
	w.idle()
	w.obs.enter()
	for i := range ws {
		x = step(x)
		size := uintptr(table[below(x, threadSizes)])
		p := w.obs.malloc(size, i)
		w.obs.write(p, 0)
		slots[i] = p
	}
	w.begin()
	for n := w.p.Iters; n != 0; n-- {
		x = step(x)
		i := below(x, ws)
		s := (*unsafe.Pointer)(unsafe.Add(base, uintptr(i)*word))
		old := *s
		w.obs.free(old, i)
		k := uint64(uint32(x)) * threadSizes >> 32
		size := uintptr(*(*uint32)(unsafe.Add(sizes, uintptr(k)*4)))
		p := w.obs.malloc(size, i)
		w.obs.write(p, 0)
		*s = p
	}
	w.end()
	for i := range ws {
		p := slots[i]
		w.obs.free(p, i)
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// growthObserved is growth on any allocator, in laps: it fills the slots, replaces random blocks, frees
// nine tenths of them, rests, and trims the allocator while all blocks are alive and after the rest.
func growthObserved(w *worker) {
	low, span, ws := w.p.Min, w.p.Max-w.p.Min+1, w.p.WS
	slots := make([]unsafe.Pointer, ws+slotPad)
	clear(slots)
	x := w.random()
	w.idle()
	w.obs.enter()
	w.begin()
	w.lap(LapStart)
	for i := range ws {
		x = step(x)
		size := uintptr(low + below(x, span))
		p := w.obs.malloc(size, i)
		w.obs.write(p, 0)
		w.obs.write(p, size-1)
		slots[i] = p
	}
	w.lap(LapFill)
	for n := w.p.Iters; n != 0; n-- {
		x = step(x)
		i := below(x, ws)
		s := &slots[i]
		old := *s
		w.obs.free(old, i)
		x = step(x)
		size := uintptr(low + below(x, span))
		p := w.obs.malloc(size, i)
		w.obs.write(p, 0)
		w.obs.write(p, size-1)
		*s = p
	}
	w.lap(LapReplace)
	w.trim()
	w.lap(LapTrimFull)
	// each block is kept with the probability left/n, so that growthKept of them are kept in all
	left, to := growthKept(ws), uint64(0)
	for n := ws; n != 0; n-- {
		i := ws - n
		x = step(x)
		p := slots[i]
		slots[i] = nil
		if below(x, n) < left {
			left--
			slots[to] = p
			to++
		} else {
			w.obs.free(p, i)
		}
	}
	w.lap(LapThin)
	w.rest()
	w.lap(LapRest)
	w.trim()
	w.lap(LapTrim)
	w.end()
	for i := range to {
		p := slots[i]
		w.obs.free(p, i)
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// larsonObserved is larson on any allocator: the thread's blocks pass from one goroutine to its
// successor, Rounds times.
func larsonObserved(w *worker) {
	slots := make([]unsafe.Pointer, w.p.WS+slotPad)
	clear(slots)
	x := w.random()
	w.idle()
	w.alone(func() { x = larsonWarmObserved(w, slots, x) })
	w.begin()
	for n := w.p.Rounds; n != 0; n-- {
		w.alone(func() { x = larsonReplaceObserved(w, slots, x, w.p.Iters) })
	}
	w.end()
	w.obs.enter()
	for i := range slots {
		p := slots[i]
		if p != nil {
			w.obs.free(p, uint64(i))
		}
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// larsonWarmObserved fills the slots, shuffles them, and replaces four times as many blocks as
// there are slots.
func larsonWarmObserved(w *worker, slots []unsafe.Pointer, x uint64) uint64 {
	low, span, ws := w.p.Min, w.p.Max-w.p.Min+1, w.p.WS
	w.obs.enter()
	for i := range ws {
		x = step(x)
		size := uintptr(low + below(x, span))
		p := w.obs.malloc(size, i)
		w.obs.write(p, 0)
		w.obs.write(p, 1)
		slots[i] = p
	}
	for i := ws; i > 1; i-- {
		x = step(x)
		j := below(x, i)
		slots[i-1], slots[j] = slots[j], slots[i-1]
	}
	w.obs.leave()
	return larsonReplaceObserved(w, slots, x, 4*ws)
}

// larsonReplaceObserved replaces n random blocks.
func larsonReplaceObserved(w *worker, slots []unsafe.Pointer, x uint64, n uint64) uint64 {
	low, span, ws := w.p.Min, w.p.Max-w.p.Min+1, w.p.WS
	slots = slots[:ws]
	w.obs.enter()
	for ; n != 0; n-- {
		x = step(x)
		i := below(x, ws)
		s := &slots[i]
		old := *s
		w.obs.free(old, i)
		x = step(x)
		size := uintptr(low + below(x, span))
		p := w.obs.malloc(size, i)
		w.obs.write(p, 0)
		w.obs.write(p, 1)
		*s = p
	}
	w.obs.leave()
	return x
}

// mallocLargeObserved is malloc-large on any allocator.
func mallocLargeObserved(w *worker) {
	low, span, ws, stride := w.p.Min, w.p.Max-w.p.Min+1, w.p.WS, uintptr(w.p.Stride)
	slots := make([]unsafe.Pointer, ws+slotPad)
	clear(slots)
	x := w.random()
	w.idle()
	w.obs.enter()
	for i := range ws {
		x = step(x)
		size := uintptr(low + below(x, span))
		p := w.obs.calloc(size, i)
		for off := uintptr(0); off < size; off += stride {
			w.obs.write(p, off)
		}
		slots[i] = p
	}
	w.begin()
	for n := w.p.Iters; n != 0; n-- {
		x = step(x)
		i := below(x, ws)
		s := &slots[i]
		old := *s
		w.obs.free(old, i)
		x = step(x)
		size := uintptr(low + below(x, span))
		p := w.obs.calloc(size, i)
		for off := uintptr(0); off < size; off += stride {
			w.obs.write(p, off)
		}
		*s = p
	}
	w.end()
	for i := range ws {
		p := slots[i]
		w.obs.free(p, i)
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// mixedObserved is mixed on any allocator.
func mixedObserved(w *worker) {
	stride := uintptr(w.p.Stride)
	w.obs.enter()
	w.begin()
	for n := w.p.Rounds; n != 0; n-- {
		for _, part := range mixedCounts {
			size := uintptr(part.size)
			for range part.count {
				p := w.obs.malloc(size, 0)
				for off := uintptr(0); off < size; off += stride {
					w.obs.write(p, off)
				}
				w.obs.free(p, 0)
			}
		}
	}
	w.end()
	w.obs.leave()
}

// mleakObserved is mleak on any allocator.
func mleakObserved(w *worker) {
	slots := make([]unsafe.Pointer, w.p.WS+slotPad)
	clear(slots)
	x := w.random()
	w.idle()
	w.alone(func() { mleakFillObserved(w, slots) })
	w.begin()
	for n := w.p.Rounds; n != 0; n-- {
		for range leakThreads {
			w.alone(func() { x = mleakTurnObserved(w, slots, x) })
		}
	}
	w.end()
	w.obs.enter()
	for i := range w.p.WS {
		p := slots[i]
		w.obs.free(p, i)
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

func mleakFillObserved(w *worker, slots []unsafe.Pointer) {
	const size = leakSize
	w.obs.enter()
	for i := range w.p.WS {
		p := w.obs.calloc(size, i)
		slots[i] = p
	}
	w.obs.leave()
}

// mleakTurnObserved is the work of each thread: it replaces a block that another thread left.
func mleakTurnObserved(w *worker, slots []unsafe.Pointer, x uint64) uint64 {
	const size = leakSize
	w.obs.enter()
	x = step(x)
	i := below(x, w.p.WS)
	s := &slots[i]
	old := *s
	p := w.obs.calloc(size, i)
	*s = p
	w.obs.free(old, i)
	w.obs.leave()
	return x
}

// mstressObserved is mstress on any allocator: Rounds times, it starts a new goroutine for each
// thread, which exchanges blocks with the others.
func mstressObserved(w *worker) {
	s := w.shared
	if w.id == 0 {
		records := mstressRecord(w.p, w.p.Threads)
		w.shared.pointers = make([]unsafe.Pointer, records)
		clear(w.shared.pointers)
		s.sizes = make([]uint32, records)
		clear(s.sizes)
		s.mail = make([]uint32, mstressTransfers)
	}
	data := make([]uint32, mstressAllocs(w.p, w.id)+slotPad)
	clear(data)
	s.barrier.wait()
	x := w.random()
	y := step(^x) // of the choice between two rounds
	w.begin()
	for n := w.p.Rounds; n != 0; n-- {
		w.alone(func() { x = mstressThreadObserved(w, data, x) })
		s.barrier.wait()
		if w.id == 0 {
			y = mstressBetweenObserved(w, y, n)
		}
		s.barrier.wait()
	}
	w.end()
}

// mstressThreadObserved is the work of one thread in one round. Blocks are known by the numbers of
// their records, which also give the size.
func mstressThreadObserved(w *worker, data []uint32, x uint64) uint64 {
	blocks, sizes, transfers := w.shared.pointers, w.shared.sizes, w.shared.mail
	allocs := mstressAllocs(w.p, w.id)
	next := mstressRecord(w.p, w.id)
	kept := next + allocs // the first retained block
	retain, keep := allocs/2, kept
	top, room, size, total := uint64(0), uint64(0), uintptr(0), uint64(0)
	var array unsafe.Pointer // the block in place of data
	w.obs.enter()
	for allocs != 0 || retain != 0 {
		x = step(x)
		if retain == 0 || allocs != 0 && below(x, 100) < 50 {
			allocs--
			if top == room {
				old := uintptr(8 * room)
				room += mstressGrow
				if more := uintptr(8 * room); old == 0 {
					p := w.obs.malloc(more, 0)
					array = p
				} else {
					p := w.obs.realloc(array, old, more, 0)
					array = p
				}
				w.obs.write(array, 0)
				w.obs.write(array, uintptr(8*room-1))
			}
			x, size = mstressSize(x, 5)
			p := w.obs.malloc(size, next)
			w.obs.fill(p, size, next)
			blocks[next] = p
			sizes[next] = uint32(size)
			data[top] = uint32(next)
			top++
			next++
		} else {
			retain--
			x, size = mstressSize(x, 7)
			p := w.obs.malloc(size, keep)
			w.obs.fill(p, size, keep)
			blocks[keep] = p
			sizes[keep] = uint32(size)
			keep++
		}
		x = step(x)
		if top != 0 && below(x, 100) < 66 {
			x = step(x)
			i := below(x, top)
			if r := data[i]; r != 0 {
				data[i] = 0
				p := blocks[r]
				blocks[r] = nil
				sum := w.obs.sum(p, uintptr(sizes[r]))
				total += sum
				w.obs.freeHanded(p)
			}
		}
		x = step(x)
		if top != 0 && below(x, 100) < 25 {
			x = step(x)
			i := below(x, top)
			x = step(x)
			data[i] = atomic.SwapUint32(&transfers[below(x, mstressTransfers)], data[i])
		}
	}
	for ; kept != keep; kept++ {
		p := blocks[kept]
		blocks[kept] = nil
		sum := w.obs.sum(p, uintptr(sizes[kept]))
		total += sum
		w.obs.free(p, kept)
	}
	for _, r := range data[:top] {
		if r != 0 {
			p := blocks[r]
			blocks[r] = nil
			sum := w.obs.sum(p, uintptr(sizes[r]))
			total += sum
			w.obs.freeHanded(p)
		}
	}
	w.obs.free(array, 0)
	w.obs.leave()
	w.sum += total
	return x
}

// mstressBetweenObserved frees half of the transfers; before round 1, the last, all of them. The
// others move to records that the next round does not use. There are two such areas, used in turn,
// because a survivor's old record may be the new record of another survivor.
func mstressBetweenObserved(w *worker, x, n uint64) uint64 {
	blocks, sizes, transfers := w.shared.pointers, w.shared.sizes, w.shared.mail
	area := 1 + n%2*mstressTransfers
	w.obs.enter()
	for i, r := range transfers {
		x = step(x)
		if r == 0 {
			continue
		}
		p := blocks[r]
		blocks[r] = nil
		if n == 1 || below(x, 100) < 50 {
			sum := w.obs.sum(p, uintptr(sizes[r]))
			w.sum += sum
			w.obs.freeHanded(p)
			transfers[i] = 0
		} else {
			to := area + uint64(i)
			blocks[to] = p
			sizes[to] = sizes[r]
			transfers[i] = uint32(to)
		}
	}
	w.obs.leave()
	return x
}

// pagesObserved is the loop of json, mir, vm and the pairs on any allocator: a ring of Alive
// blocks, whose oldest block is freed for each new one.
func pagesObserved(w *worker) {
	ring := make([]unsafe.Pointer, w.p.Alive+slotPad)
	clear(ring)
	size, stride, alive := uintptr(w.p.Max), uintptr(w.p.Stride), w.p.Alive
	w.obs.enter()
	w.begin()
	at := uint64(0)
	for n := w.p.Iters; n != 0; n-- {
		s := &ring[at]
		old := *s
		if old != nil {
			w.obs.free(old, at)
		}
		p := w.obs.malloc(size, at)
		for off := uintptr(0); off < size; off += stride {
			w.obs.write(p, off)
		}
		if alive == 1 { // freed at once: nothing is alive between two turns
			w.obs.free(p, at)
			continue
		}
		*s = p
		if at++; at == alive {
			at = 0
		}
	}
	w.end()
	for i := range ring {
		p := ring[i]
		if p != nil {
			w.obs.free(p, uint64(i))
		}
	}
	w.obs.leave()
	runtime.KeepAlive(ring)
}

// phaseObserved is phase on any allocator: random slots are freed or filled, Rounds times with
// small and then large blocks, and once more with small ones.
func phaseObserved(w *worker) {
	slots := make([]unsafe.Pointer, w.p.WS+slotPad)
	clear(slots)
	base := unsafe.Pointer(unsafe.SliceData(slots))
	x, ws := w.random(), w.p.WS
	w.obs.enter()
	w.begin()
	for turn := range 2*w.p.Rounds + 1 {
		scale := 1 + turn%2*(phaseFactor-1)
		low := w.p.Min * scale
		span := w.p.Max*scale - low + 1
		for n := w.p.Iters; n != 0; n-- {
			x = step(x)
			i := below(x, ws)
			s := (*unsafe.Pointer)(unsafe.Add(base, i*uint64(unsafe.Sizeof(slots[0]))))
			p := *s
			if p != nil {
				w.obs.free(p, i)
				*s = nil
			} else {
				x = step(x)
				size := uintptr(low + below(x, span))
				p := w.obs.malloc(size, i)
				w.obs.write(p, 0)
				w.obs.write(p, size-1)
				*s = p
			}
		}
	}
	w.end()
	for i := range slots {
		p := slots[i]
		if p != nil {
			w.obs.free(p, uint64(i))
		}
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// randomMixedObserved is random_mixed on any allocator.
func randomMixedObserved(w *worker) {
	slots := make([]unsafe.Pointer, w.p.WS+slotPad)
	clear(slots) // touches the pages, so that the loop does not
	base := unsafe.Pointer(unsafe.SliceData(slots))
	x, ws, low, span := w.seed, w.p.WS, uintptr(w.p.Min), w.p.Max-w.p.Min+1
	w.obs.enter()
	w.begin()
	for n := w.p.Iters; n != 0; n-- {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		i := uint64(x) * ws >> 32
		s := (*unsafe.Pointer)(unsafe.Add(base, i*uint64(unsafe.Sizeof(slots[0]))))
		p := *s
		if p != nil {
			w.obs.free(p, i)
			*s = nil
		} else {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			size := low + uintptr(uint64(x)*span>>32)
			p := w.obs.malloc(size, i)
			w.obs.write(p, 0)
			w.obs.write(p, size-1)
			*s = p
		}
	}
	w.end()
	for i := range slots {
		p := slots[i]
		if p != nil {
			w.obs.free(p, uint64(i))
		}
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// rptestObserved is rptest on any allocator. A batch of Iters blocks is handed on in a buffer;
// every thread and every mailbox has a buffer, full or not.
func rptestObserved(w *worker) {
	ws, iters, threads := w.p.WS, w.p.Iters, uint64(w.p.Threads)
	if w.id == 0 {
		w.shared.pointers = make([]unsafe.Pointer, 2*threads*iters)
		clear(w.shared.pointers)
		w.shared.sizes = rptestTable(w)
		w.shared.mail = make([]uint32, threads)
		for i := range w.shared.mail {
			w.shared.mail[i] = uint32(threads) + uint32(i)
		}
	}
	slots := make([]unsafe.Pointer, ws+slotPad)
	clear(slots)
	slots = slots[:ws]
	w.shared.barrier.wait()
	buffers, mail := w.shared.pointers, w.shared.mail
	own, to, mine := &mail[w.id], &mail[(uint64(w.id)+1)%threads], uint32(w.id)
	sizes, hop, s := newRptestDraw(w), rptestStride(ws, w.id), uint64(0)
	w.idle()
	w.obs.enter()
	rptestFillObserved(w, sizes, slots, 0, 1, ws)
	w.begin()
	for n := uint64(0); n != w.p.Rounds; n++ {
		mine = atomic.SwapUint32(own, mine)
		rptestEmptyObserved(w, buffers[uint64(mine)*iters:][:iters])
		if n%rptestCross == 1 {
			rptestFillObserved(w, sizes, buffers[uint64(mine)*iters:][:iters], 0, 1, iters)
			mine = atomic.SwapUint32(to, mine)
			// a batch that nobody fetched
			rptestEmptyObserved(w, buffers[uint64(mine)*iters:][:iters])
		}
		rptestFreeObserved(w, slots, s, hop, iters)
		rptestFillObserved(w, sizes, slots, s, hop, iters)
		s = (s + iters*hop) % ws
	}
	w.shared.barrier.wait() // nobody hands on any more
	rptestEmptyObserved(w, buffers[uint64(atomic.LoadUint32(own))*iters:][:iters])
	w.end()
	rptestFreeObserved(w, slots, 0, 1, ws)
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// rptestFillObserved allocates n blocks for the slots from s on, hop by hop, with the next sizes
// drawn. It is a function of its own, and so are the next two, so that its variables stay in
// registers.
//
//go:noinline
func rptestFillObserved(w *worker, d *rptestDraw, slots []unsafe.Pointer, s, hop, n uint64) {
	base, ws := unsafe.Pointer(unsafe.SliceData(slots)), uint64(len(slots))
	sizes, at, pace, touch := d.sizes, d.at, d.pace, uintptr(w.p.Stride)
	for ; n != 0; n-- {
		at = wrap(at+pace, rptestSizes)
		size := uintptr(sizes[at])
		p := w.obs.malloc(size, s)
		for off := uintptr(0); off < size; off += touch {
			w.obs.write(p, off)
		}
		*(*unsafe.Pointer)(unsafe.Add(base, uintptr(s)*word)) = p
		s = wrap(s+hop, ws)
	}
	d.at = at
}

// rptestFreeObserved frees n blocks in the slots from s on, hop by hop.
//
//go:noinline
func rptestFreeObserved(w *worker, slots []unsafe.Pointer, s, hop, n uint64) {
	base, ws := unsafe.Pointer(unsafe.SliceData(slots)), uint64(len(slots))
	for ; n != 0; n-- {
		p := *(*unsafe.Pointer)(unsafe.Add(base, uintptr(s)*word))
		w.obs.free(p, s)
		s = wrap(s+hop, ws)
	}
}

// rptestEmptyObserved frees the blocks in a buffer, unless the buffer is empty. An empty buffer
// begins with an empty slot.
//
//go:noinline
func rptestEmptyObserved(w *worker, slots []unsafe.Pointer) {
	first := slots[0]
	if first == nil {
		return
	}
	for i := range slots {
		p := slots[i]
		slots[i] = nil
		w.obs.freeHanded(p)
	}
}

// sh6benchObserved is sh6bench on any allocator.
func sh6benchObserved(w *worker) {
	slots := make([]unsafe.Pointer, w.p.WS+slotPad)
	clear(slots)
	base := unsafe.Pointer(unsafe.SliceData(slots))
	at, b := uint64(0), newSh6Buffer(w.p.WS)
	w.obs.enter()
	w.begin()
	for n := w.p.Rounds; n != 0; n-- {
		for first := uint64(1); first <= w.p.Max; first += first/2 + 1 {
			for bytes := first; bytes != 0; bytes /= 2 {
				size := uintptr(bytes)
				for k := sh6Repeats(bytes); k != 0; k-- {
					s := (*unsafe.Pointer)(unsafe.Add(base, uintptr(at)*word))
					p := w.obs.malloc(size, at)
					w.obs.write(p, 0)
					w.obs.write(p, size-1)
					*s = p
					if at++; at == b.limit {
						at = sh6TurnObserved(w, slots, &b)
					}
				}
			}
		}
	}
	sh6RestObserved(w, slots, at, &b)
	w.end()
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// sh6TurnObserved is called when the filling of the slots comes to b.limit. It returns the slot to
// continue from. If the filling stopped before the saved slots, that is the slot behind them. If
// all slots are full, it saves the next fifth and frees the slots below that, the oldest first, and
// the slots above it, the newest first. Then it returns the first slot.
//
//go:noinline
func sh6TurnObserved(w *worker, slots []unsafe.Pointer, b *sh6Buffer) uint64 {
	if b.skip(w.p.WS) {
		return b.past
	}
	b.save(w.p.WS)
	past := b.past
	lower, upper := slots[:b.saved], slots[past:w.p.WS]
	for i := range lower {
		p := lower[i]
		w.obs.free(p, uint64(i))
	}
	for i := len(upper) - 1; i >= 0; i-- {
		p := upper[i]
		w.obs.free(p, past+uint64(i))
	}
	return b.first(w.p.WS)
}

// sh6RestObserved frees what the last turn left: all slots below at, and the saved slots.
func sh6RestObserved(w *worker, slots []unsafe.Pointer, at uint64, b *sh6Buffer) {
	for i := range w.p.WS {
		if i < at || i >= b.saved && i < b.past {
			p := slots[i]
			w.obs.free(p, i)
		}
	}
}

// sh8benchObserved is sh8bench on any allocator: sh6bench's buffer, and a table through which the
// threads hand blocks to each other. All threads go through the table in the same order and at
// distances from each other, so that the block in a slot is mostly another thread's.
//
// A block comes back from the table as a number. -race considers that a mistake where the block is
// the empty loop's, which is on Go's heap.
//
//go:nocheckptr
func sh8benchObserved(w *worker) {
	low, span := w.p.Min, w.p.Max-w.p.Min+1
	slots := make([]unsafe.Pointer, w.p.WS+slotPad)
	clear(slots)
	base := unsafe.Pointer(unsafe.SliceData(slots))
	id, threads := uint64(w.id), uint64(w.p.Threads)
	if id == 0 {
		w.shared.pointers = make([]unsafe.Pointer, sh8Table)
	}
	w.shared.barrier.wait()
	table := w.shared.pointers
	x := w.random()
	w.idle()
	w.obs.enter()
	for k := id; k < sh8Table; k += threads {
		x = step(x)
		size := uintptr(low + below(x, span))
		p := w.obs.malloc(size, k)
		w.obs.write(p, 0)
		w.obs.write(p, size-1)
		table[k] = p
	}
	at, b := uint64(0), newSh6Buffer(w.p.WS)
	b.hand = id * sh8Table / threads
	w.begin()
	for n := w.p.Iters; n != 0; n-- {
		x = step(x)
		size := uintptr(low + below(x, span))
		p := w.obs.malloc(size, at)
		w.obs.write(p, 0)
		w.obs.write(p, size-1)
		if n%sh8Every == 0 {
			s := &w.shared.pointers[b.hand]
			old := atomic.SwapPointer(s, p)
			w.obs.freeHanded(old)
			if b.hand++; b.hand == sh8Table {
				b.hand = 0
			}
			continue
		}
		s := (*unsafe.Pointer)(unsafe.Add(base, uintptr(at)*word))
		*s = p
		if at++; at == b.limit {
			at = sh6TurnObserved(w, slots, &b)
		}
	}
	sh6RestObserved(w, slots, at, &b)
	w.end()
	for k := id; k < sh8Table; k += threads {
		p := table[k]
		w.obs.freeHanded(p)
	}
	w.obs.leave()
	runtime.KeepAlive(slots)
}

// tapeObserved executes a tape on any allocator, Rounds times. Between two rounds it frees the
// blocks that the tape leaves alive.
func tapeObserved(w *worker) {
	t := w.shared.tape
	ops, olds := t.ops[w.id], t.olds[w.id]
	initial := t.initial[w.id]
	w.idle()
	tapePassObserved(w, ops[:initial], olds) // no tape begins with a realloc
	w.begin()
	tapePassObserved(w, ops[initial:], olds)
	for n := w.p.Rounds; n > 1; n-- {
		w.shared.barrier.wait()
		if w.id == 0 {
			tapeClearObserved(w)
		}
		w.shared.barrier.wait()
		tapePassObserved(w, ops, olds)
	}
	w.end()
	if w.id == 0 {
		tapeClearObserved(w)
	}
}

// tapePassObserved executes one thread's operations in their order, and on each slot in the order
// of all threads.
func tapePassObserved(w *worker, ops []trace.Op, olds []uint64) {
	slots, turns := w.shared.pointers, w.shared.turns
	threaded := len(w.shared.tape.ops) > 1
	w.obs.enter()
	for i := range ops {
		op := &ops[i]
		if threaded {
			await(&turns[op.Slot], op.Seq)
		}
		s := &slots[op.Slot]
		size := uintptr(op.Size)
		switch op.Kind {
		case trace.Free:
			p := *s
			*s = nil
			w.obs.freeInTurn(p, uint64(op.Slot), threaded)
		case trace.Malloc:
			p := w.obs.malloc(size, uint64(op.Slot))
			for off := uintptr(0); off < size; off += 4096 {
				w.obs.write(p, off)
			}
			*s = p
		case trace.Calloc:
			p := w.obs.calloc(size, uint64(op.Slot))
			for off := uintptr(0); off < size; off += 4096 {
				w.obs.write(p, off)
			}
			*s = p
		case trace.Realloc:
			old := *s
			p := w.obs.realloc(old, uintptr(olds[0]), size, uint64(op.Slot))
			olds = olds[1:]
			for off := uintptr(0); off < size; off += 4096 {
				w.obs.write(p, off)
			}
			*s = p
		case trace.Memalign:
			p := w.obs.memalign(uintptr(1)<<(op.Align&31), size, uint64(op.Slot))
			for off := uintptr(0); off < size; off += 4096 {
				w.obs.write(p, off)
			}
			*s = p
		}
		if threaded {
			atomic.StoreUint32(&turns[op.Slot], op.Seq+1)
		}
	}
	w.obs.leave()
}

// tapeClearObserved frees the blocks that are alive and resets the slots' turns.
func tapeClearObserved(w *worker) {
	slots := w.shared.pointers
	w.obs.enter()
	for i := range slots {
		s := &slots[i]
		p := *s
		if p != nil {
			w.obs.freeHanded(p)
			*s = nil
		}
		w.shared.turns[i] = 0
	}
	w.obs.leave()
}

// tinyHotObserved is tiny_hot on any allocator.
func tinyHotObserved(w *worker) {
	var slots [HotBatch]unsafe.Pointer
	w.obs.enter()
	w.begin()
	for n := batches(w.p); n != 0; n-- {
		tinyHotBatchObserved(w, &slots)
	}
	w.end()
	w.obs.leave()
}

// tinyHotBatchObserved is one batch of tinyHotObserved. Because it is a function of its own, its
// loops reload no variable of the caller's around each call.
//
//go:noinline
func tinyHotBatchObserved(w *worker, slots *[HotBatch]unsafe.Pointer) {
	const size = HotSize
	_ = slots[0] // checks for nil here, so that the loops do not
	for i := range slots {
		p := w.obs.malloc(size, uint64(i))
		w.obs.write(p, 0)
		slots[i] = p
	}
	for i := len(slots) - 1; i >= 0; i-- {
		p := slots[i]
		w.obs.free(p, uint64(i))
	}
}

// xmallocObserved is xmalloc-test on any allocator: the thread allocates, and a partner of its own
// frees.
func xmallocObserved(w *worker) {
	if w.id == 0 {
		w.shared.pointers = make([]unsafe.Pointer, xmallocBatches*xmallocBatch)
		clear(w.shared.pointers)
		w.shared.idle.init(xmallocBatches, xmallocBatches)
		w.shared.full.init(xmallocBatches, 0)
	}
	w.shared.barrier.wait()
	w.begin()
	join := concurrently(func() { xmallocFreeObserved(w.partner) })
	xmallocFillObserved(w)
	join()
	w.end()
}

// xmallocFillObserved fills Iters batches.
func xmallocFillObserved(w *worker) {
	x, sizes := w.random(), xmallocTable(w.p)
	count := uint64(len(sizes))
	w.obs.enter()
	for n := w.p.Iters; n != 0; n-- {
		b := w.shared.idle.take()
		batch := w.shared.pointers[b*xmallocBatch:][:xmallocBatch]
		for i := range batch {
			x = step(x)
			size := uintptr(sizes[below(x, count)])
			p := w.obs.malloc(size, uint64(i))
			w.obs.fill(p, min(size, xmallocFilled), uint64(i))
			batch[i] = p
		}
		w.shared.full.put(b)
	}
	w.obs.leave()
}

// xmallocFreeObserved frees Iters batches.
func xmallocFreeObserved(w *worker) {
	w.obs.enter()
	for n := w.p.Iters; n != 0; n-- {
		b := w.shared.full.take()
		batch := w.shared.pointers[b*xmallocBatch:][:xmallocBatch]
		for i := range batch {
			p := batch[i]
			batch[i] = nil
			w.obs.freeHanded(p)
		}
		w.shared.idle.put(b)
	}
	w.obs.leave()
}

// xmallocMixedObserved is xmalloc-mixed on any allocator: if no size is given, xmalloc draws from
// its table.
func xmallocMixedObserved(w *worker) { xmallocObserved(w) }
