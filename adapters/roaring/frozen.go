//go:build (386 || amd64 || arm || arm64 || ppc64le || mipsle || mips64le || wasm) && !race

package hakmemroaring

import "github.com/RoaringBitmap/roaring/v2"

// These processors are those for which roaring has the frozen format. A bitmap in it has all of its contents in the
// block, and on the Go heap one object, which the collector does not look into.

func frozenSize(b *roaring.Bitmap) uint64 { return b.GetFrozenSizeInBytes() }

// freezeTo writes b to block and returns a bitmap with its contents there.
func freezeTo(b *roaring.Bitmap, block []byte) (*roaring.Bitmap, error) {
	if _, err := b.FreezeTo(block); err != nil {
		return nil, err
	}
	view := roaring.New()
	return view, view.FrozenView(block)
}
