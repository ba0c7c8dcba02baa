//go:build !(386 || amd64 || arm || arm64 || ppc64le || mipsle || mips64le || wasm) || race

package hakmemroaring

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// For these processors roaring has no frozen format. In programs built with -race its FrozenView stops in checkptr,
// because it makes pointers to the end of an object.

func frozenSize(b *roaring.Bitmap) uint64 { return b.GetSerializedSizeInBytes() }

// freezeTo writes b to block and returns a bitmap with its contents there, as far as roaring does not copy them.
func freezeTo(b *roaring.Bitmap, block []byte) (*roaring.Bitmap, error) {
	w := writer{block}
	if _, err := b.WriteTo(&w); err != nil {
		return nil, err
	}
	return portable(block)
}

// writer writes into a slice.
type writer struct{ rest []byte }

func (w *writer) Write(b []byte) (int, error) {
	n := copy(w.rest, b)
	w.rest = w.rest[n:]
	if n < len(b) {
		return n, fmt.Errorf("it is %d bytes longer than it said", len(b)-n)
	}
	return n, nil
}
