//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && (amd64 || arm64) && (linux || darwin) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package engine

// mP is the offset of the field p in the runtime's m, for Go 1.26 and 1.27 on amd64 and arm64.
// It is the same on Linux and macOS: m has the 40 bytes of a gsignalStack before it, and a signal
// mask of 8 bytes on Linux, of 4 and 4 unused ones on macOS. (Go 1.25 has 200.)
//
// TestOffsets computes it from the runtime's sources, and verified checks it when a program starts.
const mP = 208
