package testkit

import (
	"testing"
	"unsafe"
)

// TestPattern: a change of any byte is seen, as are another key and another place.
func TestPattern(t *testing.T) {
	for _, n := range []uintptr{0, 1, 7, 8, 9, 16, 100} {
		b := make([]uint64, 16) // 128 bytes, aligned to a word
		p := unsafe.Pointer(&b[0])
		if !IsZero(p, n) {
			t.Errorf("%d bytes that are zero are not", n)
		}
		Fill(p, n, 12345)
		if !Intact(p, n, 12345) {
			t.Errorf("%d bytes as they were filled are not intact", n)
		}
		if n > 0 && Intact(p, n, 54321) {
			t.Errorf("%d bytes have the pattern of two keys", n)
		}
		for i := range n {
			at := (*byte)(unsafe.Add(p, i))
			*at ^= 1
			if Intact(p, n, 12345) {
				t.Errorf("byte %d of %d was changed, and they are intact", i, n)
			}
			*at ^= 1
		}
		if !IsZero(unsafe.Add(p, 104), 24) {
			t.Errorf("Fill of %d bytes wrote behind them", n)
		}
		clear(b)
		for i := range n {
			at := (*byte)(unsafe.Add(p, i))
			*at = 1
			if IsZero(p, n) {
				t.Errorf("byte %d of %d was set, and they are zero", i, n)
			}
			*at = 0
		}
	}
}

// TestWild: the result is any distance away, up and down, also where -race would end the
// process.
func TestWild(t *testing.T) {
	var b [16]byte
	p := unsafe.Pointer(&b[8])
	for _, n := range []int{0, 1, 8, -8, 1 << 60, -1 << 60} {
		if got, want := uintptr(Wild(p, n)), uintptr(p)+uintptr(n); got != want {
			t.Errorf("%p and %d: %#x, want %#x", p, n, got, want)
		}
	}
	if got := uintptr(Wild(nil, uint64(1)<<63)); got != 1<<63 {
		t.Errorf("nil and 2^63: %#x", got)
	}
}
