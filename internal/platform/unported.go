//go:build (linux || darwin || freebsd || windows) && (ppc64 || mips64 || mips64le)

package platform

// These processors have 64-bit pointers, but the engine's tests have not been run on them.
const _ int = "hakmem has not been ported to this 64-bit processor: docs/design.md"
