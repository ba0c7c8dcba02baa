//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package engine

import (
	"runtime"
	"testing"
	"unsafe"
)

// TestWrongGuesses: whatever front all threads guess (another P's, a Heap's, one in the pool or
// none), each continues with its own front, and corrects the guess.
func TestWrongGuesses(t *testing.T) {
	withPolicy(t, nil)
	withRoad(t)
	if !Road.Fast {
		t.Fatal("the road is not the fast section; see TestFastSectionInForce")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one P serves it all
	sizes := []uintptr{16, 64, 1000, 3000, 70_000}
	turn := func() {
		t.Helper()
		var blocks []unsafe.Pointer
		for i := range 40 {
			size := sizes[i%len(sizes)]
			p := Road.Malloc(size)
			b := unsafe.Slice((*byte)(p), size)
			b[0], b[size-1] = byte(i), byte(i)
			blocks = append(blocks, p)
		}
		for i, p := range blocks {
			size := sizes[i%len(sizes)]
			if b := unsafe.Slice((*byte)(p), size); b[0] != byte(i) || b[size-1] != byte(i) {
				t.Fatalf("the block %p of %d bytes has two holders", p, size)
			}
			Road.Free(p)
		}
	}
	turn()
	here := uintptr(unsafe.Pointer(&guesses))
	mine := pFronts[procPin()]
	procUnpin()
	ofHeap, pooled := NewHeapFront(), NewHeapFront()
	CloseHeapFront(pooled)
	defer CloseHeapFront(ofHeap)
	other := NewHeapFront() // as another P's: with an owner that is no P here
	word := (*uintptr)(unsafe.Add(unsafe.Pointer(nil), other+ownerOffset))
	*word = 8
	defer func() { *word = 0; CloseHeapFront(other) }()
	for what, front := range map[string]Front{"none": Front(here), "the trap": trapFront, "a Heap's": ofHeap, "one in the pool": pooled, "another P's": other} {
		for i := range guesses.at {
			guesses.at[i] = uintptr(front) - here
		}
		before := *(*[64]uintptr)(unsafe.Add(unsafe.Pointer(nil), front))
		for range 3 {
			turn()
		}
		corrected := 0
		for i := range guesses.at {
			switch guesses.at[i] {
			case uintptr(front) - here:
			case mine - here, pFronts[0] - here: // the scavenger may have taken the first one
				corrected++
			default:
				t.Errorf("%s: a guess became %#x", what, guesses.at[i]+here)
			}
		}
		if corrected == 0 {
			t.Errorf("%s: no guess was corrected in 120 turns", what)
		}
		if uintptr(front) != here && *(*[64]uintptr)(unsafe.Add(unsafe.Pointer(nil), front)) != before {
			t.Errorf("%s: its magazines were used", what)
		}
	}
}
