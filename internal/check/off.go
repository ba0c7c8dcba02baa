//go:build !hakmem_check

package check

import "sync"

// This file holds what the package is in builds without the tag: nothing that costs anything.

// On says whether this build checks. Code that serves only the checks stands behind it.
const On = false

// Mutex is sync.Mutex itself.
type Mutex[R Ranked] = sync.Mutex

// In a package that does not import sync, the compiler inlines Lock only if one of that package's
// imports has inlined it. This package has, here.
var _ = func(m *sync.Mutex) bool {
	m.Lock()
	//lint:ignore SA2001 nothing is protected: the calls are here to be inlined
	m.Unlock()
	return m.TryLock()
}

// MayLock, Held and MustHold are for builds with the tag. Here Held is always true.
func MayLock(m *sync.Mutex)               {}
func Held(m *sync.Mutex) bool             { return true }
func MustHold(m *sync.Mutex, what string) {}

// Enter, Leave, MustBeEntered and MustNotBeEntered do nothing here.
func Enter()                       {}
func Leave()                       {}
func MustBeEntered(what string)    {}
func MustNotBeEntered(what string) {}

// Exclusive calls do.
func Exclusive(do func()) { do() }
