//go:build !hakmem_check

package check

import "sync"

// On says that this build checks. What serves the checks alone goes behind it.
const On = false

// Mutex is sync.Mutex itself. (A struct around one would not do: Go 1.26 inlines its Lock, but
// not the Lock of the sync.Mutex in it, because its methods are generic.)
type Mutex[R Ranked] = sync.Mutex

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
