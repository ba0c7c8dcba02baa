//go:build hakmem_check

package check

import (
	"sync"
	"unsafe"
)

// This file holds the lock of builds with the tag. A Mutex has no owner field; its goroutine's
// entry says who holds it.

// Mutex is a sync.Mutex with a rank, and has the size of a sync.Mutex: who holds it is noted in the
// goroutine's entry (see goroutine). Its zero value is unlocked. The goroutine that locks it must
// unlock it.
type Mutex[R Ranked] struct{ mu sync.Mutex }

// Lock takes m. Before it waits, it panics if the goroutine is entered or holds a lock under which
// a lock of m's rank must not be taken. Another lock of the same rank is an example.
func (m *Mutex[R]) Lock() {
	r := rankOf[R]()
	mayTake(r)
	m.mu.Lock()
	took(r, m.address())
}

// TryLock takes m if nobody holds it, and reports whether it has taken it. It panics where Lock
// does, because a caller that tries in vain usually waits next.
func (m *Mutex[R]) TryLock() bool {
	r := rankOf[R]()
	mayTake(r)
	ok := m.mu.TryLock()
	if ok {
		took(r, m.address())
	}
	return ok
}

// Unlock releases m. It panics if the goroutine does not hold m, or is entered: the lock of a shard
// is released after Leave.
func (m *Mutex[R]) Unlock() {
	r := rankOf[R]()
	s := current()
	switch {
	case s == nil || !s.holds(r, m.address()):
		s.fail(r.String() + " is unlocked by a goroutine that does not hold it")
	case s.entered:
		s.fail(r.String() + " is unlocked while entered: leave first")
	}
	s.drop(r)
	m.mu.Unlock()
}

// MayLock panics where m.Lock would, and does not change m. It is for a function that locks m only
// sometimes: so a caller that must not call the function is found at every call.
func MayLock[R Ranked](m *Mutex[R]) { mayTake(rankOf[R]()) }

// Held reports whether the goroutine holds m. It is for assertions: without the tag it is always
// true.
func Held[R Ranked](m *Mutex[R]) bool {
	s := current()
	return s != nil && s.holds(rankOf[R](), m.address())
}

// MustHold panics unless the goroutine holds m. what is the name of the function that is called
// under m.
func MustHold[R Ranked](m *Mutex[R], what string) {
	if !Held(m) {
		current().fail(what + ": needs " + rankOf[R]().String() + ", which the goroutine does not hold")
	}
}

// rankOf returns the rank of a Mutex[R].
func rankOf[R Ranked]() Rank {
	var r R
	return r.rank()
}

// address returns the address of m, which must not change. So the compiler must not put a Mutex on
// a stack, which can move. It does not, because the address would be stored in escaped if keep were
// ever true.
func (m *Mutex[R]) address() uintptr {
	if keep {
		escaped = unsafe.Pointer(m)
	}
	return uintptr(unsafe.Pointer(m))
}

var (
	keep    bool
	escaped unsafe.Pointer
)
