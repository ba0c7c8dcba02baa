//go:build !(((go1.26 && !go1.28) || hakmem_untested_go) && (amd64 || arm64) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan)

package engine

import "unsafe"

// Builds without a fast section.

// HaveFast is false: every call pins its P (or, with the tag hakmem_nopin, locks a front).
const HaveFast = false

const canSample = false

func fastSection() (func(uintptr) unsafe.Pointer, func(unsafe.Pointer)) { panic("unreachable") }

func currentP() [2]uintptr { panic("unreachable") }

func callsOnlyItsOwn() bool { panic("unreachable") }
