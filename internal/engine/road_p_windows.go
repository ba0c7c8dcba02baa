//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && (amd64 || arm64) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package engine

// mP is the offset of the field p in the runtime's m, for Go 1.26 and 1.27 on amd64 and arm64.
// It is 48 less than on Linux, because m has neither the 40 bytes of a gsignalStack nor a signal mask.
//
// TestOffsets computes it from the runtime's sources, and verified checks it when a program starts.
const mP = 160
