// Package check turns what the comments of this module say about locks into assertions: which lock
// is taken before which, what is called under which lock, and what is called while entered. In
// builds with the tag hakmem_check a broken rule panics where it is broken, before anything blocks.
// In all other builds the package costs nothing: a Mutex is a sync.Mutex, and every other call is
// an empty function, which the compiler drops.
//
// A build with the tag is for tests. Each lock and each Enter takes some ten nanoseconds longer.
// The table of goroutines takes 16 MiB of address space, of which only the entries in use are
// touched. The table is atomic, so two goroutines that use the same entry one after the other are
// ordered by it. For that reason the race detector can miss a race: run it without the tag as well.
//
// The rules come from docs/concurrency.md, sections 1 and 2. The order of locks is the table in
// rank.go.
package check

// Ranked is implemented by the types that name the locks: Region, Shard and so on. They have no
// fields, and no other type implements Ranked.
type Ranked interface{ rank() Rank }
