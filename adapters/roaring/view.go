// Package hakmemroaring keeps the contents of bitmaps of github.com/RoaringBitmap/roaring/v2 that no longer change
// outside the Go heap, in hakmem:
//
//	v, err := hakmemroaring.Freeze(bitmap, hakmemroaring.Options{})
//	defer v.Close()
//	v.Bitmap().Contains(7)
//
// It was tried with roaring v2.30.0.
package hakmemroaring

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/hakmem/hakmem"
)

// blockAlign is the alignment that roaring's frozen format has at its beginning, in bytes.
const blockAlign = 32

// Options says how a View allocates. The zero value is right for most programs.
type Options struct {
	// Site labels the blocks in hakmem's statistics, profile and leak reports. 0 means none.
	Site hakmem.Site
}

// View is a bitmap that cannot be changed, and whose contents are in a block of hakmem's. Any number of goroutines
// may read it at the same time, except by Bitmap.Clone, which writes marks; Close needs that none does. [Freeze] and [Load] make a View, and it must be closed: one that is
// dropped keeps its memory, because bitmaps that were computed from it may use it. [ReadDropped] counts such Views.
type View struct {
	bitmap *roaring.Bitmap
	block  []byte
	held   *held
}

// Freeze returns a View with the values of b. b itself may be changed or dropped afterwards. The block has as many
// bytes as b's frozen format, GetFrozenSizeInBytes. Where roaring has none, which is on some processors and in
// programs built with -race, it is the portable format's. Freeze returns an error with a [*hakmem.OutOfMemoryError] in it
// when no memory is left, and one for a nil b. It panics for a site that [hakmem.RegisterSite] did not return.
func Freeze(b *roaring.Bitmap, o Options) (*View, error) {
	if b == nil {
		return nil, errors.New("hakmemroaring: Freeze of a nil bitmap: give it one of roaring.New")
	}
	return build(o, frozenSize(b), func(block []byte) (*roaring.Bitmap, error) { return freezeTo(b, block) })
}

// Load reads size bytes from r into a block and returns a View of the bitmap that they are, in the portable format, which
// Bitmap.WriteTo writes and other languages read. On the Go heap it has a small object for each 65,536 values that are
// not all 0. Load checks what it reads, and returns an error if that is no bitmap of that size, if r returns one, or,
// with a [*hakmem.OutOfMemoryError] in it, when no memory is left. It panics for a site that [hakmem.RegisterSite] did not return.
func Load(r io.Reader, size int, o Options) (*View, error) {
	if size < 0 {
		return nil, fmt.Errorf("hakmemroaring: Load of %d bytes: sizes are not negative", size)
	}
	return build(o, uint64(size), func(block []byte) (*roaring.Bitmap, error) {
		if _, err := io.ReadFull(r, block); err != nil {
			return nil, err
		}
		return portable(block)
	})
}

// portable returns a bitmap with its contents in block.
func portable(block []byte) (*roaring.Bitmap, error) {
	b := roaring.New()
	n, err := b.FromBuffer(block)
	if err == nil && n != int64(len(block)) {
		err = fmt.Errorf("the bitmap ends after %d of %d bytes", n, len(block))
	}
	if err == nil {
		err = b.Validate()
	}
	return b, err
}

// build makes a View of a block that fill fills.
func build(o Options, size uint64, fill func(block []byte) (*roaring.Bitmap, error)) (*View, error) {
	p := hakmem.AlignedAllocAt(o.Site, blockAlign, uintptr(size))
	if p == nil {
		return nil, fmt.Errorf("hakmemroaring: a bitmap of %d bytes: %w", size, &hakmem.OutOfMemoryError{Size: uintptr(size), Reason: errRefused})
	}
	v := &View{block: unsafe.Slice((*byte)(p), size), held: &held{bytes: size}}
	var err error
	if v.bitmap, err = fill(v.block); err != nil {
		hakmem.Free(p)
		return nil, fmt.Errorf("hakmemroaring: a bitmap of %d bytes: %w", size, err)
	}
	runtime.Callers(3, v.held.by[:])
	v.held.cleanup = runtime.AddCleanup(v, drop, v.held)
	return v, nil
}

var errRefused = errors.New("hakmem had no memory for it; hakmem.WriteStats says where it is")

// Bitmap returns the bitmap, for reading only: a method that changes a bitmap must not be called on it, nor
// CloneCopyOnWriteContainers. It may be an operand of any other: roaring.And and the like, and b.Or of another bitmap b.
// What these return may use the View's block. So call CloneCopyOnWriteContainers on each result that is to outlive the View,
// before Close. [View.Copy] is for results that are the View's own contents. After Close Bitmap returns an empty bitmap.
func (v *View) Bitmap() *roaring.Bitmap { return v.bitmap }

// Copy returns a bitmap on the Go heap with the same values. It may be changed, and outlives the View.
func (v *View) Copy() *roaring.Bitmap {
	b := roaring.New()
	b.Or(v.bitmap)
	b.CloneCopyOnWriteContainers()
	runtime.KeepAlive(v)
	return b
}

// Bytes returns the size of the View's block, in bytes. After Close it is 0.
func (v *View) Bytes() int { return len(v.block) }

// Close gives the block back. Nothing that uses it may be used any more: what Bitmap has returned, and the results of
// operations on it that were not made independent. A second Close does nothing.
func (v *View) Close() {
	if v.block == nil {
		return
	}
	p := unsafe.Pointer(unsafe.SliceData(v.block))
	v.held.cleanup.Stop()
	v.block, v.bitmap = nil, roaring.New()
	hakmem.Free(p)
}

// held is what is known of a View when it is dropped.
type held struct {
	bytes   uint64
	by      [1]uintptr // the caller of Freeze or Load
	cleanup runtime.Cleanup
}

// Dropped counts the Views that became unreachable without Close.
type Dropped struct {
	Views, Bytes uint64 // Bytes are those of their blocks, which stay allocated
	// First says where the first of them was made: the function that called Freeze or Load, and its line. It is empty if there is none.
	First string
}

// dropped is what ReadDropped returns.
var dropped struct {
	views, bytes atomic.Uint64
	first        atomic.Pointer[held]
}

// ReadDropped returns what was dropped since the start of the program. A View is noticed some time after a garbage
// collection that finds it unreachable. Any goroutine may call it.
func ReadDropped() Dropped {
	d := Dropped{Views: dropped.views.Load(), Bytes: dropped.bytes.Load()}
	if h := dropped.first.Load(); h != nil {
		f, _ := runtime.CallersFrames(h.by[:]).Next()
		d.First = fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
	}
	return d
}

// drop is the cleanup of a View.
func drop(h *held) {
	dropped.first.CompareAndSwap(nil, h)
	dropped.bytes.Add(h.bytes)
	dropped.views.Add(1)
}
