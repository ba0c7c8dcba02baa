// Package testkit has what the tests of several packages share: cases that run in a process of
// their own, refused calls of the operating system, patterns, clocks, panics as values. It does not
// import the allocator, so that the engine's own tests can use it. Helpers that need the allocator
// are in the package workout below it. Only tests import these packages.
package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// PanicOf calls do and returns the value of its panic, or nil.
func PanicOf(do func()) (value any) {
	defer func() { value = recover() }()
	do()
	return nil
}

// PanicAs calls do and returns the error of type E with which it panicked, or E's zero value and a
// text that says what happened instead.
func PanicAs[E error](do func()) (e E, instead string) {
	v := PanicOf(do)
	if v == nil {
		return e, "it returned"
	}
	if err, ok := v.(error); ok && errors.As(err, &e) {
		return e, ""
	}
	return e, fmt.Sprintf("it panicked with %T: %v", v, v)
}

// CopyOf copies a handle that must not be copied. go vet does not notice, because it does not look
// into a type parameter.
func CopyOf[T any](h *T) *T {
	c := new(T)
	*c = *h
	return c
}

// RandomSize returns a size that is mostly tiny, sometimes mid, and rarely that of a large block.
func RandomSize(r *rand.Rand) uintptr {
	switch n := r.UintN(1000); {
	case n < 900:
		return uintptr(r.UintN(1025))
	case n < 990:
		return uintptr(1025 + r.UintN(31<<10))
	case n < 999:
		return uintptr(32<<10 + r.UintN(200<<10))
	}
	return uintptr(r.UintN(3 << 20))
}
