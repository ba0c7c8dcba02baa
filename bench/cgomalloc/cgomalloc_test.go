//go:build cgo

package cgomalloc

import (
	"testing"
	"unsafe"
)

func TestBlocks(t *testing.T) {
	p := Malloc(100)
	b := unsafe.Slice((*byte)(p), 100)
	for i := range b {
		b[i] = byte(i)
	}
	p = Realloc(p, 10_000)
	for i, v := range unsafe.Slice((*byte)(p), 100) {
		if v != byte(i) {
			t.Fatalf("byte %d is %d after Realloc", i, v)
		}
	}
	Free(p)
	z := Calloc(1000)
	for i, v := range unsafe.Slice((*byte)(z), 1000) {
		if v != 0 {
			t.Fatalf("byte %d of a zeroed block is %d", i, v)
		}
	}
	Free(z)
}
