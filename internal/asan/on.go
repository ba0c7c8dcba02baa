//go:build asan

// Package asan tells the address sanitizer of programs built with -asan which
// bytes of hakmem's may be used. Such programs are built with cgo anyway; others
// contain nothing of this.
package asan

/*
#include <sanitizer/asan_interface.h>
#include <stdint.h>

static void poison(uintptr_t p, uintptr_t n) { __asan_poison_memory_region((void *)p, n); }
static void unpoison(uintptr_t p, uintptr_t n) { __asan_unpoison_memory_region((void *)p, n); }
*/
import "C"

// On says that this is such a program.
const On = true

// Poison makes any use of the n bytes at p end the process with a report; bytes
// of an 8-byte granule that is used further are left. Unpoison allows them. Any
// goroutine, not pinned: they are calls of C.
func Poison(p, n uintptr)   { C.poison(C.uintptr_t(p), C.uintptr_t(n)) }
func Unpoison(p, n uintptr) { C.unpoison(C.uintptr_t(p), C.uintptr_t(n)) }
