package engine

import (
	"errors"
	"time"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
)

// This file measures what it costs on this machine to return memory and to fault it in, with a page that
// is about to be returned anyway.

// lastProbe is when the last probe was made, if there was one. Owned by scavenger.mu.
var lastProbe struct {
	at   stamp
	made bool
}

const (
	// probeTime is the time between two probes, in hundredths of HAKMEM_DECAY_MS: 22 s. A probe takes some
	// 50 µs.
	probeTime = 1000
	// probeRounds is how often a probe returns the page and faults it in. The fastest of them counts.
	probeRounds = 3
	// mayProbe says that hakmem may write to free pages in this build: sanitizers want to know of it, and
	// do not say what a fault costs.
	mayProbe = learning && !asan.On && !msan && !raced && osmem.KeepsReadable
)

// probeDue reports whether it is time for a probe. Where the system makes huge pages by itself, a touch of
// one page may bring 2 MiB. Under scavenger.mu.
func probeDue(now stamp, come bool) bool {
	p := &lastProbe
	return mayProbe && !come && policy.Now().Keep == policy.KeepAuto && (!p.made || now.since(p.at) >= decayPart(probeTime))
}

// probe measures with a dirty page that is out of use. Afterwards it has memory, as before. It reports
// whether the page may be touched (see returnMemory). Under scavenger.mu, and no other lock.
func probe(page pageNo, now stamp) (usable bool) {
	lastProbe.made, lastProbe.at = true, now
	if !reserve(pageSize) { // a part of the page may have no memory
		return true
	}
	defer uncount(pageSize)
	best := learn.Machine{}
	for i := range probeRounds {
		began := elapsed()
		if err := tryReturn(osmem.Range{Addr: page.addr(), Size: pageSize}); err != nil {
			return !errors.Is(err, osmem.ErrDecommitted) || recommit(page.addr(), pageSize)
		}
		returned := elapsed()
		touchPages(page.addr(), pageSize)
		m := learn.Machine{Fault: perPart(elapsed() - returned), Return: perPart(returned - began)}
		if i == 0 {
			best = m
		}
		best = learn.Machine{Fault: min(best.Fault, m.Fault), Return: min(best.Return, m.Return)}
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	keeper.machine.Note(best)
	return true
}

// perPart returns the seconds for 4 KiB of a page.
func perPart(d time.Duration) float64 { return d.Seconds() / (pageSize / 4096) }

// touchPages writes to each OS page of a range.
//
//go:norace
//go:nocheckptr
func touchPages(addr mem.Addr, size mem.Bytes) {
	for i := mem.Bytes(0); i < size; i += osmem.PageSize() {
		*u8(addr.Add(i)) = 0
	}
}
