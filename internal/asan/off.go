//go:build !asan

// Package asan tells the address sanitizer of programs built with -asan which
// bytes of hakmem's may be used. Such programs are built with cgo anyway; others
// contain nothing of this.
package asan

// On says that this is a program built with -asan.
const On = false

// Poison and Unpoison do nothing.
func Poison(p, n uintptr)   {}
func Unpoison(p, n uintptr) {}
