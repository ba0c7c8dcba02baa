package engine

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
)

// This file keeps the system from filling again what was returned.
//
// A huge page of the system is as large as a chunk. Where huge pages come without being asked for,
// one that is resident in part does not stay so. khugepaged, a thread of the kernel, copies the
// pages of such a chunk into a huge page and fills up with zeroes what is missing. So a chunk from
// which memory is returned while other parts of it are in use is SPARSE, and gets the advice
// MADV_NOHUGEPAGE before its memory is returned. The advice stays until the whole chunk is free and
// returned. Then the chunk is renewed: fresh memory is mapped over it, which has no advice. (No
// madvise takes an advice back.) A chunk that is in use as a whole again keeps the advice.
//
// A chunk without memory needs no advice, since khugepaged makes no huge page of nothing. But the
// first touch of one of its pages brings memory for all of them. Therefore, where huge pages come, a
// return from a chunk takes all of its free pages, also those that were never used (withClean).
//
// What the system did before the advice was given, or because the mode has changed, is found by a
// look at which pages are resident (lookAtPages, and refill.go for the holes in slabs).

// hugePages is what is known of the system's huge pages. Owned by scavenger.mu, except boundaries and asked.
var hugePages struct {
	come   bool  // huge pages come without being asked for, or the region has asked for them
	exist  bool  // the system has huge pages, and the region has not refused them
	known  bool  // the mode was read
	readAt stamp // when
	// pause is for how long the mode, once read, is taken for true: modeAge, and longer after
	// refusals of advice.
	pause millis
	// look is the chunk at which the look after a change of the mode continues. 0: there is none.
	look chunkNo
	// asked says that a chunk was asked for huge pages, and that this could not be taken back (touch.go).
	asked atomic.Bool
	// boundaries is the number of pairs of neighbouring chunks of which one has the advice and the
	// other has not. Owned by region.mu.
	boundaries int
	// filled counts the bytes found resident although nobody used them since their return, or ever.
	// Owned by region.mu.
	filled uint64
	// vec is the result of one look, at most a batch of purge's: 1 for each OS page that is resident.
	vec [purgeBatch * superSize / 4096]byte
}

const (
	// modeAge is how old the mode may be, in milliseconds. To read it takes some 0.3 ms, where the
	// system has ten sizes of huge pages. So a program that returns memory all the time spends 1/3000
	// of its time on that.
	modeAge = 1000
	// maxPause bounds the pause after refusals: a minute.
	maxPause = 64 * modeAge
	// mostBoundaries bounds the mappings that advice costs the process: each boundary is one more. It
	// is a 16th of the 65,530 that a process on Linux may have (vm.max_map_count), to leave most of
	// them to Go's heap, guarded blocks and the program.
	mostBoundaries = 4096
	// lookPerTick is how many chunks a tick looks at after the mode has changed: the system tells
	// 64 MiB in some 0.2 ms.
	lookPerTick = purgeBatch
)

// hugePageMode is the system's mode, and maxBoundaries the bound in force. Tests replace both.
var (
	hugePageMode  = osmem.HugePageMode
	maxBoundaries = mostBoundaries
)

// hugePagesCome reports whether the system may make huge pages of committed memory now. It may read
// files; it is for those who are about to return memory. When huge pages begin to come, the chunks
// that are SPARSE by then get their advice. Under scavenger.mu; no other lock may be held.
func hugePagesCome() bool {
	h := &hugePages
	now := milliseconds()
	if h.known && now.since(h.readAt) < h.pause {
		return h.come
	}
	changed := h.known
	h.known, h.readAt, h.pause = true, now, max(modeAge, h.pause)
	mode, thp := hugePageMode(), policy.AtStart().THP
	h.exist = mode != "" && thp != policy.THPNever
	was := h.come
	h.come = hugePagesIn(mode, thp) || mode == "madvise" && h.asked.Load()
	if h.come && !was && changed && adviseSparse() {
		h.look = region.firstChunk()
	}
	return h.come
}

// hugePagesIn reports whether in a mode the system may make huge pages of the region by itself, or
// because the region has asked for them.
func hugePagesIn(mode string, thp policy.THP) bool {
	return thp != policy.THPNever && (mode == "always" || mode == "unknown" || mode == "madvise" && thp == policy.THPAlways)
}

// adviseSparse gives the advice to all SPARSE chunks that do not have it, and reports whether it
// could.
func adviseSparse() bool {
	var list [purgeBatch]chunkNo
	for c := chunkNo(0); c < region.endChunk(); {
		n := 0
		region.mu.Lock()
		for ; c < region.endChunk() && n < len(list); c++ {
			if s := super(c); s.sparse && !s.smallPages {
				list[n] = c
				n++
			}
		}
		region.mu.Unlock()
		if !advise(list[:n]) {
			return false
		}
	}
	return true
}

// madeSparse notes that memory of the chunks is about to be returned while other parts of them are
// in use. It gives the advice to those that need it. It changes the list. Under scavenger.mu; no
// other lock may be held.
func madeSparse(chunks []chunkNo) {
	if len(chunks) == 0 {
		return
	}
	come := hugePagesCome()
	n := 0
	region.mu.Lock()
	for _, c := range chunks {
		s := super(c)
		s.sparse = true
		if come && !s.smallPages && (n == 0 || chunks[n-1] != c) {
			chunks[n] = c
			n++
		}
	}
	region.mu.Unlock()
	advise(chunks[:n])
}

// advise gives the advice to chunks without it, with one call for those that follow each other. Then
// it looks whether their clean pages are resident. It reports whether it could give the advice.
func advise(chunks []chunkNo) bool {
	for len(chunks) > 0 {
		from, n := chunks[0], chunkCount(1)
		for int(n) < len(chunks) && chunks[n] == from+chunkNo(n) {
			n++
		}
		chunks = chunks[n:]
		if err := noHugePages(from, n); err != nil {
			if !adviseAll(err) {
				return false
			}
			continue
		}
		hugePages.pause = modeAge
		region.mu.Lock()
		setSmallPages(from, n, true)
		over := hugePages.boundaries > maxBoundaries
		region.mu.Unlock()
		for at := chunkCount(0); at < n; at += purgeBatch {
			lookAtPages(from+chunkNo(at), min(purgeBatch, n-at), false)
		}
		if over && !adviseAll(nil) {
			return false
		}
	}
	return true
}

// noHugePages is the advice itself, for n chunks from c on.
func noHugePages(c chunkNo, n chunkCount) error {
	return osmem.HugePages(c.addr(), mem.Bytes(n)*superSize, false)
}

// adviseAll gives the advice to everything that is committed for blocks, with one call, so that all
// of it is one mapping again. It is for regions with too many boundaries, or after the failure of
// another advice, which the process's limit on mappings may have caused: this one needs no mapping
// more. It reports whether it could.
func adviseAll(err error) bool {
	h := &hugePages
	from := region.firstChunk()
	n := chunkCount(region.endChunk() - from)
	if err == nil || errors.Is(err, syscall.ENOMEM) {
		err = noHugePages(from, n)
	}
	if err == nil {
		region.mu.Lock()
		setSmallPages(from, n, true)
		region.mu.Unlock()
		return true
	}
	// Memory that is returned may come back. The next Trim finds it. Each refusal doubles the time
	// until the next try.
	h.come, h.pause = false, min(2*h.pause, maxPause)
	if hugePageMode() != "unknown" { // where it may be that there are no huge pages
		survive(fmt.Errorf("hakmem: advice against huge pages: %w; memory that is returned may be resident again until Trim is called", err))
	}
	return false
}

// setSmallPages notes that n chunks have the advice, or that they do not. Under region.mu.
func setSmallPages(from chunkNo, n chunkCount, advised bool) {
	check.MustHold(&region.mu, "setSmallPages")
	for c := from; c < from+chunkNo(n); c++ {
		s := super(c)
		if s.smallPages == advised {
			continue
		}
		s.smallPages = advised
		for _, next := range [2]chunkNo{c - 1, c + 1} {
			if hasSmallPages(next) == advised {
				hugePages.boundaries--
			} else {
				hugePages.boundaries++
			}
		}
	}
}

// hasSmallPages reports whether there is a chunk c that has the advice. c may be -1.
func hasSmallPages(c chunkNo) bool {
	return c < chunkNo(region.size>>superShift) && super(c).smallPages
}

// withClean returns those pages of a chunk that are to be returned when its dirty pages m are. Where
// huge pages come, these are all of its free pages. Under region.mu.
func (s *superMeta) withClean(m pageSet, come bool) pageSet {
	if m != 0 && (come || s.smallPages) {
		return s.free
	}
	return m
}

// beforePurge is madeSparse for those chunks of a batch that are in use in part. take has the pages
// that are to be returned, which are out of use, of each chunk from c on.
func beforePurge(c chunkNo, take []pageSet) {
	var list [purgeBatch]chunkNo
	n := 0
	region.mu.Lock()
	for i, m := range take {
		at := c + chunkNo(i)
		if m != 0 && (!(super(at).free | m).whole() || hugePagesSpan()) {
			list[n] = at
			n++
		}
	}
	region.mu.Unlock()
	madeSparse(list[:n])
}

// hugePagesSpan reports whether a huge page may be larger than a chunk. Then a chunk without memory
// needs the advice too, since one in use next to it would bring memory for both.
func hugePagesSpan() bool { return osmem.HugePageSize() > superSize }

// beforeLiveDiscard is madeSparse for the chunks of the live map of which a part is to be returned:
// those of the pages tiny of the chunks from c on. Such a chunk keeps its advice.
func beforeLiveDiscard(c chunkNo, tiny []pageSet) {
	var list [purgeBatch]chunkNo
	n := 0
	for i, m := range tiny {
		live := chunkNo(mem.Bytes((c + chunkNo(i)).page()) * region.live.unit >> superShift)
		if m != 0 && (n == 0 || list[n-1] != live) {
			list[n] = live
			n++
		}
	}
	madeSparse(list[:n])
}

// renewWhole renews those chunks of a batch that have the advice and whose pages are all out of use
// and returned: cleaned has them, of each chunk from c on. After a failure recommit tries to make a
// range usable again; if it cannot, the pages are added to lost. Under scavenger.mu; no other lock may
// be held.
func renewWhole(c chunkNo, cleaned, lost []pageSet, recommit func(mem.Addr, mem.Bytes) bool) {
	if tracked || hugePagesSpan() { // the Go heap's mappings are Go's
		return
	}
	for i := 0; i < len(cleaned); i++ {
		n := 0
		for i+n < len(cleaned) && cleaned[i+n].whole() && super(c+chunkNo(i+n)).smallPages {
			n++
		}
		if n == 0 {
			continue
		}
		from := c + chunkNo(i)
		if !renew(from, chunkCount(n)) && !recommit(from.addr(), mem.Bytes(n)*superSize) {
			for j := i; j < i+n; j++ {
				lost[j] = ^pageSet(0)
			}
		}
		i += n
	}
}

// renew renews n chunks. It reports whether they may be touched now, renewed or not.
func renew(from chunkNo, n chunkCount) (usable bool) {
	region.mu.Lock()
	room := hugePages.boundaries+2 <= maxBoundaries
	region.mu.Unlock()
	if !room {
		return true // the chunks keep their advice
	}
	addr, size := from.addr(), mem.Bytes(n)*superSize
	if err := osmem.Renew(addr, size); err != nil {
		if !errors.Is(err, syscall.ENOMEM) { // the limit on mappings, with which the chunks keep their advice
			survive(fmt.Errorf("hakmem: fresh memory for returned pages: %w", err))
		}
		return !errors.Is(err, osmem.ErrDecommitted)
	}
	osmem.Name(addr, size, regionName)
	if policy.AtStart().THP == policy.THPAlways {
		if err := osmem.HugePages(addr, size, true); err != nil {
			survive(fmt.Errorf("hakmem: advice on huge pages for returned pages: %w", err))
		}
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	setSmallPages(from, n, false)
	return true
}

// lookAtPages looks which free pages of the n chunks from c on, at most purgeBatch, are resident
// although they count as clean. It makes them dirty. With slabs set it looks at SPARSE superslabs,
// too. It returns the chunks that it looked at, as a set; hugePages.vec says which of their OS pages
// are resident. Under scavenger.mu; no other lock may be held.
func lookAtPages(c chunkNo, n chunkCount, slabs bool) (looked uint32) {
	h := &hugePages
	step := osmem.PageSize()
	each := int(superSize / step) // OS pages of a chunk
	region.mu.Lock()
	for i := range n {
		s := super(c + chunkNo(i))
		if s.free&^s.dirty != 0 || slabs && s.sparse && s.isSlabs {
			looked |= 1 << i
		}
	}
	region.mu.Unlock()
	var found [purgeBatch]pageSet
	for i := 0; i < int(n); i++ {
		run := 0
		for i+run < int(n) && looked>>(i+run)&1 != 0 {
			run++
		}
		if run == 0 {
			continue
		}
		vec := h.vec[i*each : (i+run)*each]
		if !residentPages((c + chunkNo(i)).addr(), vec) {
			clear(vec)
			for j := range vec { // what cannot be known is taken for resident where it may be
				if h.come {
					vec[j] = 1
				}
			}
		}
		for j, v := range vec {
			if v&1 != 0 {
				page := j * superPages / each
				found[i+page/superPages] |= 1 << (page % superPages)
			}
		}
		i += run
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	for i, m := range found[:n] {
		s := super(c + chunkNo(i))
		h.filled += uint64(pageCount(s.foundMemory(m & s.free).count()).bytes())
	}
	return looked
}

// residentPages sets vec to 1 for each OS page from addr on that is resident, and to 0 for the
// others. It reports whether the system tells.
func residentPages(addr mem.Addr, vec []byte) (known bool) {
	var look osmem.Look
	if !beginLook(&look) {
		return false
	}
	defer look.Close()
	clear(vec)
	step := osmem.PageSize()
	for look.Over(addr, mem.Bytes(len(vec))*step); look.Next(); {
		from := look.Run.Addr.From(addr) / step
		for i := range look.Run.Size / step {
			vec[from+i] = 1
		}
	}
	return look.Known()
}
