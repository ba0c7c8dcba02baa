package engine

import (
	"math/rand/v2"

	"github.com/hakmem/hakmem/internal/site"
)

// This file says which allocations are samples: those that get a guarded block (HAKMEM_GUARD=1/N), and those whose block gets
// its caller as its site (HAKMEM_SITES=pc/N). Both share one countdown, to the next allocation that is either.
// It is a word of each front (sampleWord) and belongs to whoever has entered with the front.

// sample says what an allocation has been drawn for.
type sample struct {
	guard bool    // its block is to be guarded
	drawn bool    // its site is its caller
	site  site.ID // of its block: the one that was given, or the caller; 0: none
}

// draw counts an allocation with a site (0: none) and says what it is drawn for. counted says that the
// allocation has been through a fast path, which has counted it. Not entered.
func draw(own Front, s site.ID, counted bool) sample {
	x := sample{guard: GuardRate() == 1, site: s}
	// If each allocation is a sample, there is nothing to count: the word stays at 0 or below.
	if !sampled() || s != 0 && GuardRate() <= 1 || chance() < 1 && !due(own, counted) {
		return x
	}
	switch g, c := GuardRate(), CallerRate(); {
	case c == 0:
		x.guard = true
		return x
	case g <= 1: // the caller alone
	case rand.Float64()*chance() >= 1/float64(c): // not the caller, so the guard
		x.guard = true
		return x
	default: // each is drawn as if there were no other
		x.guard = rand.IntN(g) == 0
	}
	if s == 0 {
		x.site = callerSite()
		x.drawn = x.site != 0
	}
	return x
}

// forgo reports whether an allocation that has returned p is to be made once more, without its caller as its
// site: there may have been no memory for that.
func (x *sample) forgo(p Block) bool {
	if p != 0 || !x.drawn {
		return false
	}
	DidWithout()
	x.site, x.drawn = 0, false
	return true
}

// due counts this allocation and reports whether the front's next sample is due; if so it draws the
// interval to the one after it. counted is as for draw.
func due(own Front, counted bool) bool {
	f, tok := enter(own)
	for f == trapFront { // where fronts are locked, the next enter may get another one
		leave(tok)
		if !installFront(tok) {
			return false
		}
		kick()          // the timer may have stopped with the last front
		counted = false // or on the trap, which is nobody's
		f, tok = enter(own)
	}
	w := f.sampleWord()
	if !counted || tok >= 0 || Hardened() || GuardRate() == 1 || own != 0 && AlwaysSlow() {
		*w--
	}
	is := *w <= 0
	if is {
		*w = sampleInterval() // it takes no lock and no Go memory
	}
	leave(tok)
	return is
}
