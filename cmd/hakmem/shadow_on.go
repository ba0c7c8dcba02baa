//go:build race || asan || msan

package main

// shadowed says that a detector of the compiler's is in this build, which keeps
// shadow memory of all that was ever used: resident memory then says nothing of
// hakmem's.
const shadowed = true
