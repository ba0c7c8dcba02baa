//go:build hakmem_check

package check

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// This file holds what is known of each goroutine: which locks it holds, and whether it is entered.
// An entry is owned by its goroutine; only the two fields by which entries are found are atomic.

// self returns the address of the runtime's descriptor of the goroutine. The address is unique as
// long as the goroutine lives: a descriptor does not move, and is used again only when its
// goroutine has ended. Reading it takes a nanosecond, on every version of Go. (The number of a
// goroutine can be had only from runtime.Stack. That walks the whole stack, for some microseconds,
// and its buffer escapes, so a pinned goroutine would allocate.)
func self() uintptr

// goroutine is what is known of a goroutine that holds a lock, is entered, or has exclusive use.
// All fields except the first two are plain, because only that goroutine uses them.
type goroutine struct {
	g atomic.Uintptr // self of the goroutine whose entry this is; 0: no goroutine's
	// passed is the number of entries that lie behind this one because this one was taken when they
	// looked for a place. A search ends at an entry where passed is 0.
	passed             atomic.Int32
	held               ranks
	entered, exclusive bool
	n                  uint8 // locks held
	rank               [maxHeld]Rank
	lock               [maxHeld]uintptr // the address of each lock
}

// ranks is a set of ranks.
type ranks uint32

// maxHeld is the longest chain that order allows: from trace.mu to survived, in exclusive use. A
// test counts it.
const maxHeld = 11

// goroutines has the entry of each goroutine, at home(self) or behind it. Its size limits the
// number of goroutines that are entered at the same moment. There can be many of them, because a
// goroutine that is entered with a Heap's front can be preempted. There is room for 10^5 and more.
//
// Nobody waits for a goroutine that does not run, because no search waits for a change of an entry.
// Each goroutine looks only for its own entry.
var goroutines [1 << goroutineBits]goroutine

const goroutineBits = 17

// home is where to look first for the entry of a goroutine. The multiplier (the golden ratio in 64
// bits, Knuth vol. 3, 6.4) spreads the addresses of objects of the same size.
func home(g uintptr) uint { return uint(uint64(g) * 0x9E3779B97F4A7C15 >> (64 - goroutineBits)) }

// next is where to look after place i.
func next(i uint) uint { return (i + 1) % uint(len(goroutines)) }

// current returns the entry of the goroutine, or nil if it has none.
func current() *goroutine {
	g := self()
	i := home(g)
	for range goroutines {
		s := &goroutines[i]
		if s.g.Load() == g {
			return s
		}
		if s.passed.Load() == 0 {
			break
		}
		i = next(i)
	}
	return nil
}

// claim returns the entry of the goroutine, and makes one if it has none.
func claim() *goroutine {
	if s := current(); s != nil {
		return s
	}
	g := self()
	i := home(g)
	for range goroutines {
		s := &goroutines[i]
		if s.g.Load() == 0 && s.g.CompareAndSwap(0, g) {
			return s
		}
		s.passed.Add(1)
		i = next(i)
	}
	panic("hakmem: check: more than 131072 goroutines are entered or hold a lock: raise goroutineBits")
}

// free gives the entry back if nothing is noted in it.
func (s *goroutine) free() {
	if s.held != 0 || s.entered || s.exclusive {
		return
	}
	i := home(s.g.Load())
	s.g.Store(0)
	for ; &goroutines[i] != s; i = next(i) {
		goroutines[i].passed.Add(-1)
	}
}

// took notes that the goroutine holds the lock of rank r at the given address.
func took(r Rank, lock uintptr) {
	s := claim()
	s.held |= 1 << r
	s.rank[s.n], s.lock[s.n] = r, lock
	s.n++
}

// drop notes that the goroutine no longer holds the lock of rank r.
func (s *goroutine) drop(r Rank) {
	s.held &^= 1 << r
	at := s.find(r)
	s.n--
	copy(s.rank[at:s.n], s.rank[at+1:])
	copy(s.lock[at:s.n], s.lock[at+1:])
	s.free()
}

// find returns the place of the lock of rank r, which is held.
func (s *goroutine) find(r Rank) (at int) {
	for s.rank[at] != r {
		at++
	}
	return at
}

// holds reports whether the goroutine holds the lock of rank r at the given address.
func (s *goroutine) holds(r Rank, lock uintptr) bool {
	return s.held>>r&1 != 0 && s.lock[s.find(r)] == lock
}

// allowed has, for each rank, the ranks that may be held when a lock of that rank is taken.
// together has the ranks that may be held then as well in exclusive use.
var allowed, together = closure()

// closure computes allowed and together from order.
func closure() (allowed, together [numRanks]ranks) {
	for r := range order {
		for _, u := range order[r].under { // of lower rank, so its entry is complete
			allowed[r] |= allowed[u] | 1<<u
		}
		for _, u := range order[r].exclusive {
			together[r] |= 1 << u
		}
	}
	return allowed, together
}

// mayTake panics unless the goroutine may take a lock of rank r now.
func mayTake(r Rank) {
	s := current()
	if s == nil {
		return
	}
	if s.entered {
		s.fail(r.String() + " is taken while entered")
	}
	may := allowed[r]
	if s.exclusive {
		may |= together[r]
	}
	if bad := s.held &^ may; bad != 0 {
		s.fail(r.String() + " is taken under " + innermost(bad).String())
	}
}

// innermost returns the last rank of a set that is not empty.
func innermost(r ranks) Rank { return Rank(bits.Len32(uint32(r)) - 1) }

// fail panics with what is wrong and with the locks that the goroutine of entry s holds. s may be
// nil. fail uses no package that locks.
func (s *goroutine) fail(what string) {
	text := "hakmem: check: " + what + " (docs/concurrency.md, section 2); held, outermost first:"
	if s == nil || s.n == 0 {
		panic(text + " nothing")
	}
	sep := " "
	for _, r := range s.rank[:s.n] {
		text += sep + r.String()
		sep = ", "
	}
	panic(text)
}

// An entry is two cache lines, so neighbours seldom share a line.
const _ = 128 - unsafe.Sizeof(goroutine{})
