//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && (amd64 || arm64) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package engine

import _ "unsafe" // for go:linkname

// What builds with a fast section know of the runtime.

// HaveFast says that this build has a fast section. Builds for other Go versions and architectures
// pin, and so do builds whose instrumentation would put calls into the section.
const HaveFast = true

// getm returns the address of the current thread's m. It is on Go's list of runtime functions kept
// for outsiders (go.dev/issue/67401).
//
//go:linkname getm runtime.getm
func getm() uintptr
