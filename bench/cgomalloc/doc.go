// Package cgomalloc is C's malloc behind cgo, for comparison: the price that a Go program pays for
// an allocator written in C. It is a module of its own, and package bench uses it only under the
// tag hakmem_cgo. The reason is that a program that links it is a cgo program: started by the C
// library, with its threads.
package cgomalloc
