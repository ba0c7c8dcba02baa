package engine

import (
	"reflect"
	"runtime"
	"testing"
	"time"
)

// compute runs without a call (with the race detector an atomic is one), so that only an
// asynchronous preemption stops it.
//
//go:norace
//go:noinline
func compute(n *int64, stop *bool) {
	for !*stop {
		step(n)
	}
}

// step is inlined, as fast paths are.
//
//go:norace
func step(n *int64) { *n++ }

//go:norace
func end(stop *bool) { *stop = true }

// TestNobodyPreempted: a goroutine that computes is preempted asynchronously, and the picture shows
// it. Goroutines that wait are not preempted.
func TestNobodyPreempted(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	}
	wait := make(chan bool)
	go func() { <-wait }()
	defer close(wait)
	deadline := time.Now().Add(20 * time.Second)
	for !preemptedNobody() { // other tests may have left goroutines that end now
		if time.Now().After(deadline) {
			t.Fatal("nothing computes, but a goroutine is preempted")
		}
		time.Sleep(time.Millisecond)
	}
	var stop bool
	var n int64
	done := make(chan bool)
	go func() { compute(&n, &stop); done <- true }()
	time.Sleep(20 * time.Millisecond)
	// It computes in a function that has no fast path in it ...
	abandoned.Lock()
	if !nobodyPreempted() {
		t.Error("a goroutine that has no Heap is in the way")
	}
	// ... and now in one that has.
	defer func(was string) { fastPaths, abandoned.fastPathAt = was, nil }(fastPaths)
	fastPaths, abandoned.fastPathAt = enginePrefix+"step", nil
	if !hasFastPath(reflect.ValueOf(compute).Pointer()) { // -race, -gcflags=-l
		t.Log("step is not inlined in this build: any function of the package stands for one with a fast path")
		fastPaths, abandoned.fastPathAt = enginePrefix, nil
	}
	abandoned.Unlock()
	for i := range 200 {
		if preemptedNobody() {
			t.Errorf("look %d: a goroutine computes, and no preemption is seen", i)
			break
		}
	}

	// A front is not touched until the computing has ended.
	f := newFront(true)
	entered(func() { f.makeMagazine(1) })
	p := Malloc(0, 16)
	f.push(1, p)
	at, _, _, _ := liveByte(p)
	*u8(at) = 0
	AbandonHeapFront(f)
	time.Sleep(20 * time.Millisecond)
	if n := f.held(1); n != 1 {
		t.Errorf("%d blocks in the front, though its Heap may be in use", n)
	}
	end(&stop)
	<-done
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		abandoned.Lock()
		left := len(abandoned.fronts)
		abandoned.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the front was not given back")
		}
	}
	frontPool.mu.Lock()
	last := frontPool.free[len(frontPool.free)-1]
	frontPool.mu.Unlock()
	if n := f.held(1); n != 0 || last != f {
		t.Errorf("%d blocks in the front, the last one given back is %#x, want %#x", n, last, f)
	}
}

// preemptedNobody is nobodyPreempted for a caller that holds no lock.
func preemptedNobody() bool {
	abandoned.Lock()
	defer abandoned.Unlock()
	return nobodyPreempted()
}
