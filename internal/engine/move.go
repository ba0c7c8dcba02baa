package engine

import (
	"errors"
	"slices"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file moves huge blocks to another place, for Realloc. Their memory is never there twice.
//
// Where the system can, it moves the memory itself, and nothing is copied. Otherwise the block is
// copied in pieces, and each piece goes back to the system before the next one. What was never
// written stays without memory, if that is known of the new place.
//
// A move has two steps. Move takes the new place, and the old block from whoever frees it at the same
// time; then it moves the contents. Free gives the old pages back. In between the caller may say that
// the block has moved, before anybody else can get the old pages. The two places belong to the caller
// of Move meanwhile. A move smaller than a huge block is not worth it: copying 2 MiB takes 0.2 ms
// (docs/ledger.md, "Huge blocks move").

// Moved is the old place of a block that moved, or none.
type Moved struct {
	p     Block     // 0: none
	pages pageCount // of the old block
	moved pageCount // its first pages, whose memory has left
	kept  []keptRun // those of them from which it has not
}

// keptRun is a run of pages that the system did not take back. lost says that it may not be touched.
type keptRun struct {
	page pageNo
	n    pageCount
	lost bool
}

// seams are the pages of the region, in ascending order, at which moves by the system have cut the
// region into more mappings. Each such move makes one mapping, and cuts the one around it in two.
// Owned by region.mu.
var seams = make([]pageNo, 0, maxSeams)

// maxSeams bounds the mappings that moves make: a 64th of the 65530 that Linux allows a process.
// Beyond it blocks are copied.
const maxSeams = 1024

// seamsIn returns the seams inside n pages from page on. Under region.mu.
func seamsIn(page pageNo, n pageCount) []pageNo {
	check.MustHold(&region.mu, "seamsIn")
	i, _ := slices.BinarySearch(seams, page+1)
	j, _ := slices.BinarySearch(seams, page+pageNo(n))
	return seams[i:max(i, j)]
}

// adviceIn reports whether a chunk of n pages from page on has advice against huge pages, which
// belongs to its mapping and would move with it. Under region.mu.
func adviceIn(page pageNo, n pageCount) bool {
	check.MustHold(&region.mu, "adviceIn")
	for c := page.chunk(); c.page() < page+pageNo(n); c++ {
		if super(c).smallPages {
			return true
		}
	}
	return false
}

// noteMapping notes that n pages from page on are one mapping, which a move has made. Under region.mu.
func noteMapping(page pageNo, n pageCount) {
	check.MustHold(&region.mu, "noteMapping")
	end := page + pageNo(n)
	i, _ := slices.BinarySearch(seams, page)
	j, _ := slices.BinarySearch(seams, end+1)
	seams = slices.Replace(seams, i, j, page, end)
}

// Move gives the huge block at p, which the caller holds, another place, with at least size bytes at a
// multiple of align, and clears the bytes behind the first keep. old is the place that it leaves, for the
// caller to free. If there is no memory for it, q is 0 and the block stays as it is. can is false for
// blocks that are not moved in this way. Not entered.
func Move(own Front, p Block, size mem.Bytes, align mem.Align, keep Keep) (q Block, old Moved, can bool) {
	check.MustNotBeEntered("Move")
	need := size
	if Hardened() {
		need = hardSize(size)
	}
	if need <= sizeclass.MaxLarge {
		return 0, Moved{}, false
	}
	usable, ok := sizeclass.LargeSize(need)
	if !ok || usable > region.size-region.first || guardsAll(size) || isGuarded(p) {
		return 0, Moved{}, false
	}
	q, old, can = moveTo(p, size, align, keep, Hardened())
	if can && q == 0 && Hardened() {
		q, old, can = moveTo(p, size, align, keep, false)
	}
	if can && q == 0 && reclaim(own, usable) {
		q, old, can = moveTo(p, size, align, keep, false)
		reclaimEnded(q != 0)
	}
	kickGrown()
	kickPressed()
	if can && q == 0 {
		noMemory()
	}
	return inProfile(own, q), old, can
}

// guardsAll reports whether every block of size bytes is to be a guarded one.
func guardsAll(size mem.Bytes) bool { return GuardRate() == 1 && size <= maxGuarded }

// moveTo does the work of Move, for a size that Move has looked at. roomy says that a block that grows is
// to get more room than it needs (hardRoom).
func moveTo(p Block, size mem.Bytes, align mem.Align, keep Keep, roomy bool) (q Block, old Moved, can bool) {
	r := &region
	r.mu.Lock()
	at, m, large, why := liveByte(p)
	usable, _ := sizeclass.LargeSize(size)
	if why != OK || !large || m.class != 0 || checkLive && state(at) == 0 || !Hardened() && isWarm(usable) {
		r.mu.Unlock()
		return 0, Moved{}, false
	}
	contents := m.largeSize
	if Hardened() {
		was, _, ok := unseal(p, m, true)
		room := mem.Bytes(0)
		if roomy && size > was {
			room = hardRoom(size)
		}
		usable, _ = sizeclass.LargeSize(hardSize(size + room))
		// A block up to maxPoison waits in the quarantine when it is freed.
		if !ok || was <= maxPoison || !breakSeal(p, was, m, true) {
			r.mu.Unlock()
			return 0, Moved{}, false
		}
		contents = was
	}
	from, n := p.page(), pagesOf(usable)
	old = Moved{p: p, pages: pageCount(m.pages), moved: min(pageCount(m.pages), n)}
	leavePages(int(old.moved))
	// The system moves whole page tables, and huge pages, if both places lie alike in 2 MiB.
	to, clean, ok := pageNo(0), false, false
	if align <= pageSize {
		to, clean, ok = takeRunAt(usable, spot{superPages, from % superPages}, false)
	}
	if !ok {
		to, clean, ok = takeRunAt(usable, spot{align: max(1, pageAlign(align>>pageShift))}, false)
	}
	if !ok {
		leavePages(-int(old.moved))
		if Hardened() {
			seal(p, contents, m, true)
		}
		r.mu.Unlock()
		return 0, Moved{}, true
	}
	putState(at, 0) // from here on another free of the block is found
	dropTouch(p)
	s, was := m.site(), m.largeSize
	m.setSite(0)
	cuts := len(seamsIn(from, old.moved))
	canMap := !tracked && !asan.On && len(seams)+2*(cuts+1) <= maxSeams && !adviceIn(from, old.moved) && !adviceIn(to, old.moved)
	r.mu.Unlock()

	endDrawn(p)
	q = makeLarge(to, n, usable, s, 0)
	if s != 0 {
		s.Resized(int64(usable) - int64(was))
	}
	asan.Unpoison(uintptr(q), uintptr(size))
	run := pageRun{to, n}
	wasClean := func(page pageNo) bool { return clean || wasClean(q, run, page) }
	for begin, last := from, from+pageNo(old.moved); begin < last; {
		end := last
		if cuts > 0 {
			end = nextSeam(begin, pageCount(last-begin))
		}
		n := pageCount(end - begin)
		if part := to + (begin - from); !canMap || !moveMapping(begin, part, n) {
			off := mem.Bytes(begin-from) << pageShift
			if left := min(contents, size); off < left {
				old.copyPages(begin, part, n, min(n.bytes(), left-off), wasClean)
			} else {
				old.empty(begin, n)
			}
		}
		begin = end
	}
	had := min(old.moved.bytes(), size)
	ZeroFrom(q, keep, had)
	if !clean {
		zeroDirty(q, max(keep, Keep(had)), size, run)
	}
	if Hardened() {
		sealed(q, size)
	}
	return q, old, true
}

// isWarm reports whether a new huge block of usable bytes would get pages of which half are dirty at least. Then
// copying costs less than a move, which would throw their memory away, and leave the old place without any: what is
// used there next needs a page fault for each 4 KiB, which takes longer than to copy them (docs/ledger.md, "Moves to
// where memory is"). It is false where a limit is near, because a copy is in memory next to its original. Under
// region.mu.
func isWarm(usable mem.Bytes) bool {
	check.MustHold(&region.mu, "isWarm")
	if pressed() || !within(usable) {
		return false
	}
	n := pagesOf(usable)
	page, ok := tree.find(n)
	if !ok {
		return false
	}
	dirty := pageCount(0)
	chunksOf(page, n, func(c chunkNo, m pageSet) { dirty += pageCount((m & super(c).dirty).count()) })
	return dirty >= n/2
}

// nextSeam returns the first seam inside n pages from page on, or the page after them. Nobody moves those
// pages except the caller.
func nextSeam(page pageNo, n pageCount) pageNo {
	region.mu.Lock()
	defer region.mu.Unlock()
	if s := seamsIn(page, n); len(s) > 0 {
		return s[0]
	}
	return page + pageNo(n)
}

// moveMapping lets the system move the memory of n pages, and reports whether it did.
func moveMapping(from, to pageNo, n pageCount) bool {
	if osmem.Move(from.addr(), to.addr(), n.bytes()) != nil {
		return false // copying does the same
	}
	region.mu.Lock()
	noteMapping(to, n)
	region.mu.Unlock()
	return true
}

// movePiece is how many pages of a block that is copied are there twice: 2 MiB. Copying them takes
// some 0.2 ms, which is much longer than the system call that gives them back.
const movePiece = superPages

// copyPages copies size bytes from n pages to n other ones, a piece at a time, and gives the memory of
// each piece back. wasClean reports whether one of the new pages is known to read as zero.
func (old *Moved) copyPages(from, to pageNo, n pageCount, size mem.Bytes, wasClean func(pageNo) bool) {
	for off := pageCount(0); off < n; off += movePiece {
		step := min(n-off, movePiece)
		for i := off; i < off+step && i.bytes() < size; i++ {
			copyPage(to+pageNo(i), from+pageNo(i), min(size-i.bytes(), pageSize), wasClean(to+pageNo(i)))
		}
		old.empty(from+pageNo(off), step)
	}
}

// zeroBytes is what copyPage compares with: an OS page of most systems.
var zeroBytes = string(make([]byte, 4096))

// copyPage copies n bytes from one page to another. If that one reads as zero, bytes that are zero are
// not written, so that no memory is needed for them.
func copyPage(to, from pageNo, n mem.Bytes, clean bool) {
	if !clean {
		Copy(ptr(to.addr()), ptr(from.addr()), n)
		return
	}
	for off := mem.Bytes(0); off < n; {
		step := min(n-off, mem.Bytes(len(zeroBytes)))
		src := from.addr().Add(off)
		if string(memory(Block(src), step)) != zeroBytes[:step] {
			Copy(ptr(to.addr().Add(off)), ptr(src), step)
		}
		off += step
	}
}

// empty gives the memory of n pages of the old block back.
func (old *Moved) empty(page pageNo, n pageCount) {
	if err := osmem.Discard(page.addr(), n.bytes()); err != nil { // the scavenger tries again
		usable := !errors.Is(err, osmem.ErrDecommitted) || recommit(page.addr(), n.bytes())
		old.kept = append(old.kept, keptRun{page, n, !usable})
	}
}

// Any reports whether a block moved.
func (old *Moved) Any() bool { return old.p != 0 }

// Free gives the pages of the old block back. Not entered.
func (old *Moved) Free() Finding {
	check.MustNotBeEntered("Moved.Free")
	page := old.p.page()
	m := meta(page)
	if raced {
		raceRelease(old.p, m.largeSize)
	}
	asan.Poison(uintptr(old.p), uintptr(m.largeSize))
	region.mu.Lock()
	splitOwned(old.p, m.largeSize, page+pageNo(old.moved))
	forgetLarge(page, m)
	tree.giveMoved(page, old.moved)
	if rest := old.pages - old.moved; rest > 0 {
		tree.give(page+pageNo(old.moved), rest, times.now)
	}
	for _, k := range old.kept {
		tree.each(k.page, k.n, func(c chunkNo, m pageSet) {
			super(c).keptMemory(m, k.lost)
		})
		if k.lost {
			anyLost.Store(true)
		}
	}
	region.mu.Unlock()
	kick()
	return TakeFinding()
}
