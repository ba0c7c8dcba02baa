//go:build hakmem_check

package check

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// self returns the address of the runtime's descriptor of the goroutine. It tells goroutines
// apart as long as they live: a descriptor does not move, and is used again when its goroutine
// has ended. Reading it takes a nanosecond, on every version of Go. (The number of a goroutine is
// only to be had from runtime.Stack. That walks the whole stack, for some microseconds, and its
// buffer escapes, so that a pinned goroutine would allocate.)
func self() uintptr

// goroutine is what is known of a goroutine that holds a lock, is entered, or has exclusive use.
// All but the first two fields are plain: only that goroutine uses them.
type goroutine struct {
	g atomic.Uintptr // self of the goroutine whose entry this is; 0: of none
	// passed is how many entries lie behind this one because it was taken when they were looking
	// for a place: a search ends where it is 0.
	passed             atomic.Int32
	held               ranks
	entered, exclusive bool
	n                  uint8 // locks held
	rank               [maxHeld]Rank
	lock               [maxHeld]uintptr // the address of each
}

// ranks is a set of ranks.
type ranks uint32

// maxHeld is the longest chain that order allows, from trace.mu to survived in exclusive use. A
// test counts it.
const maxHeld = 12

// goroutines has the entry of a goroutine at home(self) or behind it. Its size is a limit on the
// goroutines that are entered at the same moment. They can be many, as a goroutine that is
// entered with a Heap's front can be preempted: there is room for 10^5 and some.
//
// A goroutine changes nothing of its own entry that others wait for, so nobody waits for a
// goroutine that does not run. Entries are looked for by their own goroutines only.
var goroutines [1 << goroutineBits]goroutine

const goroutineBits = 17

// home is where to look first. The multiplier (the golden ratio in 64 bits, Knuth vol. 3, 6.4)
// spreads the addresses of objects of the same size.
func home(g uintptr) uint { return uint(uint64(g) * 0x9E3779B97F4A7C15 >> (64 - goroutineBits)) }

func next(i uint) uint { return (i + 1) % uint(len(goroutines)) }

// current returns the entry of the goroutine, nil if it has none.
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

// claim returns the entry of the goroutine, a new one if it has none.
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

// free gives the entry back if there is nothing in it.
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

// drop notes that the goroutine no longer holds the one of rank r.
func (s *goroutine) drop(r Rank) {
	s.held &^= 1 << r
	at := s.find(r)
	s.n--
	copy(s.rank[at:s.n], s.rank[at+1:])
	copy(s.lock[at:s.n], s.lock[at+1:])
	s.free()
}

// find returns where the lock of rank r is, which is held.
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

// allowed has, for each rank, those that may be held when it is taken; together those that may be
// held in exclusive use as well.
var allowed, together = closure()

func closure() (allowed, together [numRanks]ranks) {
	for r := range order {
		for _, u := range order[r].under { // of lower rank: done
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

// innermost returns the last of a set of ranks that is not empty.
func innermost(r ranks) Rank { return Rank(bits.Len32(uint32(r)) - 1) }

// fail panics with what is wrong and the locks that the goroutine of entry s holds; s may be nil.
// It uses no package that locks.
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

// An entry is two cache lines: neighbours share few.
const _ = 128 - unsafe.Sizeof(goroutine{})
