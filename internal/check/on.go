//go:build hakmem_check

package check

// This file holds the assertions of builds with the tag about being entered. What they know is in
// the entry of the goroutine (goroutine.go).

// On says whether this build checks. Code that serves only the checks stands behind it.
const On = true

// Enter says that from here on, until Leave, the goroutine must not block, allocate Go memory,
// panic or make a system call: it is pinned to its P, or has a shard's lock, or uses the front of a
// Heap. That must already be so when Enter is called. Until Leave, Lock, TryLock and Unlock panic.
//
// Enter panics if the goroutine is entered already. It also panics under a lock under which no
// shard's lock may be taken, because the caller does not choose whether entering pins or locks.
//
// Enter and Leave do not block or allocate. (A goroutine that is pinned and breaks a rule cannot
// panic: the Go runtime prints the message and ends the process.)
func Enter() {
	s := claim()
	if s.entered {
		s.fail("entered while entered")
	}
	if bad := s.held &^ (allowed[shard] | 1<<shard); bad != 0 {
		s.fail("entered under " + innermost(bad).String() + ", under which " + shard.String() + " is not taken")
	}
	s.entered = true
}

// Leave ends what Enter began. It is called before the P is unpinned or the shard unlocked.
func Leave() {
	s := current()
	if s == nil || !s.entered {
		s.fail("left without being entered")
	}
	s.entered = false
	s.free()
}

// MustBeEntered panics unless the goroutine is entered. what is the name of the function that
// requires it.
func MustBeEntered(what string) {
	if s := current(); s == nil || !s.entered {
		s.fail(what + ": the goroutine is not entered")
	}
}

// MustNotBeEntered panics if the goroutine is entered. It is for functions that take locks or make
// system calls, whether or not they do so in this call. what is the function's name.
func MustNotBeEntered(what string) {
	if s := current(); s != nil && s.entered {
		s.fail(what + ": the goroutine is entered")
	}
}

// Exclusive calls do, and while do runs the goroutine may also take locks under those that order
// lists as exclusive. It is for CheckInvariants; nothing else holds such locks together. It panics
// if the goroutine holds a lock or is entered.
func Exclusive(do func()) {
	s := claim()
	if s.held != 0 || s.entered || s.exclusive {
		s.fail("exclusive use begins under a lock, while entered, or twice")
	}
	s.exclusive = true
	defer func() {
		s.exclusive = false
		s.free()
	}()
	do()
}
