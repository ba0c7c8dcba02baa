// Package mem has the units in which hakmem's packages count memory. An address is not a number of
// bytes, and the compiler keeps the two apart. The package has no state.
package mem

// Addr is an address outside the Go heap.
type Addr uintptr

// Bytes is a number of bytes.
type Bytes uintptr

// Align is an alignment in bytes, a power of two.
type Align uintptr

// Add returns the address n bytes after a.
func (a Addr) Add(n Bytes) Addr { return a + Addr(n) }

// From returns how many bytes a lies after start.
func (a Addr) From(start Addr) Bytes { return Bytes(a - start) }

// Up returns the first multiple of to that is not below a. to is a power of two.
func (a Addr) Up(to Bytes) Addr { return Addr(Bytes(a).Up(to)) }

// Up returns n rounded up to a multiple of to, a power of two.
func (n Bytes) Up(to Bytes) Bytes { return (n + to - 1) &^ (to - 1) }

// Down returns n rounded down to a multiple of to, a power of two.
func (n Bytes) Down(to Bytes) Bytes { return n &^ (to - 1) }
