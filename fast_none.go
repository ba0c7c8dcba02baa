//go:build !(go1.26 && !go1.28 && (amd64 || arm64) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan)

package hakmem

import "unsafe"

// haveFast is off: every call pins its P (or, with the tag hakmem_nopin, locks a
// front).
const haveFast = false

const canSample = false

func fastSection() (func(uintptr) unsafe.Pointer, func(unsafe.Pointer)) { panic("unreachable") }

func currentP() []uintptr { panic("unreachable") }
