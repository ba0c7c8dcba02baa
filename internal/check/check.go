// Package check turns what comments of this module say about locks into assertions: which lock
// is taken before which, what is called under which lock, and what is called while entered. In
// builds with the tag hakmem_check a broken rule panics where it is broken, before anything
// blocks. In all other builds the package costs nothing: a Mutex is a sync.Mutex, and every
// other call is an empty function, which the compiler drops.
//
// A build with the tag is for tests. It is some ten nanoseconds slower for each lock and for each
// Enter, and keeps 16 MiB of address space for its table of goroutines, of which it touches what
// it uses. Its table is atomic, and two goroutines that use the same entry one after the other
// are ordered by it. The race detector can miss a race for that reason: run it without the tag
// as well.
//
// Where the rules come from: docs/concurrency.md, sections 1 and 2. The order of locks is the
// table in rank.go.
package check

// Ranked is implemented by the types Region, Shard and so on, which name the locks. They have no
// fields; there are no others.
type Ranked interface{ rank() Rank }
