package testkit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hakmem/hakmem/internal/osmem"
)

// Call is a call of the operating system that may be refused.
type Call struct {
	Op    osmem.Op
	Place string // where it is made, as returned by the place of RefuseAt
	Nth   int    // 1, 2, …: its number among the calls made at the place
}

// Refusals counts calls, and how many of them were refused.
type Refusals struct {
	mu             sync.Mutex
	calls, refused map[string]int // by place
	counting       map[string]int // by place, those of refused that Counting returns
	discards       int            // refused ones
}

// hasFallback reports whether what is refused at a place is done in another way, which is no error:
// another place for the region, another way to move a block, page faults for a fresh one, small pages for huge ones.
func hasFallback(place string) bool {
	file, _, _ := strings.Cut(place, ":")
	return slices.Contains([]string{"space.go", "reserve.go", "pagetree.go", "move.go", "touch.go", "collapse.go"}, file)
}

// Refuse makes calls fail if when returns true for them, until osmem.Inject(nil). It counts the
// calls of all kinds together. Every second refused discard leaves the memory decommitted, which
// can happen on systems where a discard takes two steps.
//
// Calls come from many goroutines, which hold locks of several owners; when is called by one at a
// time.
func Refuse(when func(Call) bool) *Refusals {
	return RefuseAt(func() string { return "" }, when)
}

// RefuseAt is Refuse with calls counted by the place at which they are made. The goroutine that
// makes a call calls place, which returns that place; the error of a refusal ends with it.
func RefuseAt(place func() string, when func(Call) bool) *Refusals {
	r := &Refusals{calls: map[string]int{}, refused: map[string]int{}, counting: map[string]int{}}
	osmem.Inject(func(op osmem.Op) error {
		at := place()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls[at]++
		if !when(Call{op, at, r.calls[at]}) {
			return nil
		}
		r.refused[at]++
		if op != osmem.OpResident && op != osmem.OpDiscard && !hasFallback(at) {
			r.counting[at]++
		}
		err := osmem.ErrInjected
		if at != "" {
			err = fmt.Errorf("%w: %v at %s", err, op, at)
		}
		if op == osmem.OpDiscard {
			if r.discards++; r.discards%2 == 0 {
				err = fmt.Errorf("%w: %w", err, osmem.ErrDecommitted)
			}
		}
		return err
	})
	return r
}

// RefuseOp makes the n-th call of one kind fail if when(n) is true, n = 1, 2, …, until
// osmem.Inject(nil). A refused discard leaves the memory as it is.
func RefuseOp(op osmem.Op, when func(n int) bool) {
	var mu sync.Mutex
	n := 0
	osmem.Inject(func(o osmem.Op) error {
		if o != op {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		if when(n) {
			return osmem.ErrInjected
		}
		return nil
	})
}

// Calls returns the number of calls by place.
func (r *Refusals) Calls() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.calls)
}

// Refused returns the number of refused calls by place. The counts are a copy, because the
// allocator's locks are taken before that of Refusals.
func (r *Refusals) Refused() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.refused)
}

// Counting returns the number of refused calls by place, without those that Err need not report: looks
// at what is resident, which a system may refuse, and discards, which are tried again in parts.
func (r *Refusals) Counting() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counting)
}

// Total returns how many calls were refused.
func (r *Refusals) Total() (n int) {
	for _, k := range r.Refused() {
		n += k
	}
	return n
}
