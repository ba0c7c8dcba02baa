package engine

import "github.com/hakmem/hakmem/internal/sizeclass"

// How what a front holds is given back. There is no state here: the caller has the front alone.

// emptyFront flushes every magazine, retires every lease and empties the quarantine of a front that
// no other goroutine can reach.
func emptyFront(f Front) {
	emptyQuarantine(f)
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		emptyMagazine(f, c)
		f.endLease(c)
	}
}

// endLease retires the front's lease of class c, if it has one.
func (f Front) endLease(c sizeclass.ID) {
	if s := f.takeLease(c); s != 0 {
		retire(s)
	}
}

// emptyMagazine gives back all blocks of one magazine of a front that no other goroutine can reach.
// The blocks it pops are not hits: the pops made before it are counted first, and the number seen
// is then forgotten.
func emptyMagazine(f Front, c sizeclass.ID) {
	if f.head().cap[c] == 0 { // it was never made
		return
	}
	f.look(c, f.held(c))
	f.head().seen[c] = 0
	if f.held(c) == 0 {
		return
	}
	*f.flushes(c)++
	var buf [maxFlush]Block
	for n := len(buf); n == len(buf); {
		n = f.popInto(c, buf[:])
		if c > sizeclass.Num {
			releaseAll(buf[:n])
		} else {
			timedFlush(buf[:n], c)
		}
	}
}
