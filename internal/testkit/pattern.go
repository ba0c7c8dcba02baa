package testkit

import "unsafe"

// Patterns show which owner wrote a block. Fill and the functions below are norace, because
// instrumenting their loops would cost time. What the race detector sees of blocks has tests of its
// own, in the root's track_race_test.go and in proof.

// Fill writes a pattern that depends on key over the n bytes at p.
//
//go:norace
func Fill(p unsafe.Pointer, n uintptr, key uint64) {
	words := unsafe.Slice((*uint64)(p), n/8)
	for i := range words {
		words[i] = key + uint64(i)*0x9E3779B97F4A7C15 // 2^64 over the golden ratio: no two words alike
	}
	tail := unsafe.Slice((*byte)(p), n)[n&^7:]
	for i := range tail {
		tail[i] = byte(key>>8) + byte(i)
	}
}

// Intact reports whether Fill's pattern is still there.
//
//go:norace
func Intact(p unsafe.Pointer, n uintptr, key uint64) bool {
	for i, w := range unsafe.Slice((*uint64)(p), n/8) {
		if w != key+uint64(i)*0x9E3779B97F4A7C15 {
			return false
		}
	}
	for i, b := range unsafe.Slice((*byte)(p), n)[n&^7:] {
		if b != byte(key>>8)+byte(i) {
			return false
		}
	}
	return true
}

// IsZero reports whether the n bytes at p are zero.
//
//go:norace
func IsZero(p unsafe.Pointer, n uintptr) bool {
	for _, w := range unsafe.Slice((*uint64)(p), n/8) {
		if w != 0 {
			return false
		}
	}
	for _, b := range unsafe.Slice((*byte)(p), n)[n&^7:] {
		if b != 0 {
			return false
		}
	}
	return true
}

// Wild is unsafe.Add without the checks that -race adds to it, for pointers that are wrong on
// purpose.
//
//go:nocheckptr
func Wild[I int | uint | uintptr | int64 | uint64](p unsafe.Pointer, n I) unsafe.Pointer {
	return unsafe.Add(p, n)
}
