package governor

// asking decides how much callbacks are asked to give up. What they have freed in Go's heap shows only
// after a collection. Until then they are not asked for it again. For what was asked for in several rounds
// the first one counts: a cache that grows as fast as it gives up would else be asked for ever less. The zero
// value has asked for nothing.
type asking struct {
	owed   uint64 // bytes asked for that have not shown yet
	last   uint64 // by how much too much was alive at the last look
	cycles cycles // collections that had ended when the first of them were asked for
	looks  int    // since then
}

const (
	// freshCycles: a collection that was under way when memory was freed may count it as alive. The next one
	// does not.
	freshCycles = 2
	// askedLooks: a program that frees and allocates outside of Go's heap only has no collections.
	// After eight periods, 0.8 s by default, what has not shown will not.
	askedLooks = 8
)

// next takes, once in a period, by how many bytes too much is alive, how many collections have ended, and
// whether a round is under way. It returns how many bytes to ask for.
func (a *asking) next(short uint64, ended cycles, busy bool) (ask uint64) {
	a.owed = less(a.owed, less(a.last, short)) // what has gone was given
	a.last = short
	if busy { // the callbacks have not answered yet
		a.cycles, a.looks = ended, 0
		return 0
	}
	if a.looks++; a.looks >= askedLooks || ended >= a.cycles+freshCycles {
		a.owed = 0
	}
	return less(short, a.owed)
}

// asked notes that a round has begun for so many bytes.
func (a *asking) asked(bytes uint64, ended cycles) {
	if a.owed == 0 {
		a.cycles, a.looks = ended, 0
	}
	a.owed += bytes
}
