// The program that off_test.go builds and looks into: what the engine does with package check.
package main

import "github.com/hakmem/hakmem/internal/check"

// Locked uses every call of the package, and keeps a global and an embedded Mutex.
//
//go:noinline
func Locked() bool {
	check.MayLock(&shards[1].mu)
	shards[1].mu.Lock()
	check.Enter()
	check.MustBeEntered("Locked")
	check.MustHold(&shards[1].mu, "Locked")
	check.Leave()
	shards[1].mu.Unlock()
	check.MustNotBeEntered("Locked")
	check.Exclusive(inside)
	if check.On && !check.Held(&records.Mutex) {
		panic("not in this build")
	}
	return records.TryLock()
}

//go:noinline
func inside() { records.n++ }

var shards [2]struct{ mu check.Mutex[check.Shard] }

var records struct {
	check.Mutex[check.Records]
	n int
}

func main() { println(Locked()) }
