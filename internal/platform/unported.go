//go:build (linux || darwin || freebsd || windows) && (ppc64 || mips64 || mips64le)

package platform

// These have 64-bit pointers, but nobody has run the engine's tests there.
const _ int = "hakmem has not been ported to this 64-bit processor: docs/design.md"
