//go:build go1.26 && !go1.28 && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package hakmem

import (
	"os"
	"runtime"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
)

// TestWrongGuesses: whatever front all threads guess, another P's, a Heap's, one in
// the pool or none, each goes on with its own, and corrects the guess.
func TestWrongGuesses(t *testing.T) {
	if os.Getenv("HAKMEM_FAST_SECTION") != "" {
		t.Skip("skipped: HAKMEM_FAST_SECTION is set")
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
			p := Malloc(size)
			b := unsafe.Slice((*byte)(p), size)
			b[0], b[size-1] = byte(i), byte(i)
			blocks = append(blocks, p)
		}
		for i, p := range blocks {
			size := sizes[i%len(sizes)]
			if b := unsafe.Slice((*byte)(p), size); b[0] != byte(i) || b[size-1] != byte(i) {
				t.Fatalf("the block %p of %d bytes has two holders", p, size)
			}
			Free(p)
		}
	}
	turn()
	here := uintptr(unsafe.Pointer(&engine.Guesses))
	mine := engine.Fronts[engine.Pin()]
	engine.Unpin()
	ofHeap, pooled := engine.NewHeapFront(), engine.NewHeapFront()
	engine.CloseHeapFront(pooled)
	defer engine.CloseHeapFront(ofHeap)
	other := engine.NewHeapFront() // as another P's: with an owner that is no P here
	word := (*uintptr)(unsafe.Add(unsafe.Pointer(nil), other+engine.OwnerOffset))
	*word = 8
	defer func() { *word = 0; engine.CloseHeapFront(other) }()
	for what, front := range map[string]engine.Front{"none": engine.Front(here), "the trap": engine.TrapFront(), "a Heap's": ofHeap, "one in the pool": pooled, "another P's": other} {
		for i := range engine.Guesses.At {
			engine.Guesses.At[i] = uintptr(front) - here
		}
		before := *(*[64]uintptr)(unsafe.Add(unsafe.Pointer(nil), front))
		for range 3 {
			turn()
		}
		corrected := 0
		for i := range engine.Guesses.At {
			switch engine.Guesses.At[i] {
			case uintptr(front) - here:
			case mine - here, engine.Fronts[0] - here: // the scavenger may have taken the first one
				corrected++
			default:
				t.Errorf("%s: a guess became %#x", what, engine.Guesses.At[i]+here)
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
