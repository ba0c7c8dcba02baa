//go:build !race && !asan && !msan

package main

// shadowed says that this build contains one of the compiler's detectors, which keep shadow memory
// of all memory that was ever used. Then resident memory says nothing about hakmem.
const shadowed = false
