// Package hakmemarrow is a memory.Allocator of Apache Arrow (github.com/apache/arrow-go) whose buffers lie
// outside the Go heap, in hakmem:
//
//	memory.DefaultAllocator = hakmemarrow.New(hakmemarrow.Options{}) // first thing in main
//
// Arrow's own rule becomes a real one: what was retained must be released. A buffer that nobody releases stays,
// because the garbage collector does not see it, and one that is read after its release is another buffer's
// memory. Strings and slices that Arrow's arrays return point into their buffers: copy what is to outlive them.
//
// The package needs nothing of arrow-go, because the allocator's interface has no types of its own. It was tried
// with arrow-go v18.8.0.
package hakmemarrow

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// DefaultAlign is the alignment that Arrow's format recommends and arrow-go promises, in bytes: that of a cache
// line, and of the widest SIMD registers.
const DefaultAlign = 64

// maxAlign is the largest alignment that hakmem.AlignedAlloc has, in bytes.
const maxAlign = 2 << 20

// Options says how an Allocator allocates. The zero value is right for most programs.
type Options struct {
	// Site labels the buffers in hakmem's statistics, profile and leak reports. Each buffer of a site is
	// cleared when it is allocated; without a site, memory that is fresh from the system is not touched.
	Site hakmem.Site
	// Align is the alignment of every buffer, in bytes: a power of two from 64 to 2 MiB. 0 is 64. Devices
	// that read memory by pages want 4096.
	Align int
	// IgnoreForeign lets Free and Reallocate accept slices that are not hakmem's: Free leaves them to the
	// collector, Reallocate copies them. Arrow frees such a slice where a program has given it one of its
	// own, by memory.NewBufferWithAllocator for example. Without IgnoreForeign such a call panics.
	IgnoreForeign bool
}

// Allocator is a memory.Allocator of arrow-go. Any goroutine may call its methods at any time, and may free what
// any other has allocated. Allocators share hakmem's memory: a buffer may be freed by another Allocator than its
// own, except that the two then count it wrongly.
type Allocator struct {
	options Options
	align   uintptr
	bytes   atomic.Int64
}

// New returns an Allocator. It panics if an option has no such value.
func New(o Options) *Allocator {
	if o.Align == 0 {
		o.Align = DefaultAlign
	}
	if o.Align < DefaultAlign || o.Align > maxAlign || o.Align&(o.Align-1) != 0 {
		panic(fmt.Sprintf("hakmemarrow: Options.Align is %d: use a power of two from %d to %d", o.Align, DefaultAlign, maxAlign))
	}
	if o.Site != 0 {
		hakmem.ReadSiteRule(o.Site) // it panics for a site that is not registered
	}
	return &Allocator{options: o, align: uintptr(o.Align)}
}

// Allocate returns a zeroed slice of size bytes with len = cap = size, aligned to Options.Align bytes. The caller
// owns it until Free or Reallocate. Size 0 gives an empty slice, which has no memory. A negative size panics, and
// so does a lack of memory, with a *hakmem.OutOfMemoryError: Arrow's interface has no errors.
func (a *Allocator) Allocate(size int) []byte {
	if size < 0 {
		panic(negative("Allocate", size))
	}
	if size == 0 {
		return []byte{}
	}
	p := a.zeroed(a.round(size))
	a.bytes.Add(int64(size))
	return unsafe.Slice((*byte)(p), size)
}

// Reallocate returns a slice of size bytes with len = cap = size and the contents of b, as far as they fit; bytes
// beyond len(b) are zero if size is above cap(b). It takes b, which must not be used any more, and which may be
// the result: buffers above 32 KiB grow in place where the memory behind them is free. Size 0 frees b. It panics
// as Allocate and Free do; b is unchanged then.
func (a *Allocator) Reallocate(size int, b []byte) []byte {
	switch {
	case size < 0:
		panic(negative("Reallocate", size))
	case cap(b) == 0:
		return a.Allocate(size)
	case !a.owns("Reallocate", b):
		if size <= cap(b) {
			return b[:size]
		}
		moved := a.Allocate(size)
		copy(moved, b)
		return moved
	case size == 0:
		a.Free(b)
		return []byte{}
	}
	keep := len(b)
	if size <= cap(b) {
		keep = cap(b) // as Arrow's own allocator does, for which b[:size] is the result then
	}
	p := a.resized(unsafe.Pointer(unsafe.SliceData(b)), uintptr(keep), a.round(size))
	a.bytes.Add(int64(size) - int64(cap(b)))
	return unsafe.Slice((*byte)(p), size)
}

// Free gives a slice of Allocate or Reallocate back. It must begin where it began then; its length does not
// matter. An empty slice without capacity is allowed and does nothing. A slice of the Go heap panics with a
// *ForeignError, except with Options.IgnoreForeign. What else is wrong, a second free for example, panics with a
// *hakmem.MisuseError, whatever the options say. Nothing is changed by a call that panics.
func (a *Allocator) Free(b []byte) {
	if cap(b) == 0 || !a.owns("Free", b) {
		return
	}
	hakmem.FreeBytes(b)
	a.bytes.Add(-int64(cap(b)))
}

// AllocatedBytes returns the number of bytes that were allocated by this Allocator and not freed yet, as they were
// asked for.
func (a *Allocator) AllocatedBytes() int64 { return a.bytes.Load() }

// TestingT is what AssertSize needs of a *testing.T, as in package memory of arrow-go.
type TestingT interface {
	Errorf(format string, args ...any)
	Helper()
}

// AssertSize makes the test fail unless AllocatedBytes is size, as memory.CheckedAllocator does. It knows no
// stacks; hakmemtest.NoLeaks reports where leaked buffers were allocated.
func (a *Allocator) AssertSize(t TestingT, size int) {
	if n := a.AllocatedBytes(); n != int64(size) {
		t.Helper()
		t.Errorf("hakmemarrow: %d bytes are allocated, want %d", n, size)
	}
}

// ForeignError is the value of the panic with which Free and Reallocate refuse a slice that is not hakmem's.
type ForeignError struct {
	Op   string  // "Free" or "Reallocate"
	Addr uintptr // where the slice begins
	Cap  int     // its capacity, in bytes
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("hakmemarrow: %s of %d bytes at %#x, which hakmem has not allocated: give Arrow memory of the same allocator, or set Options.IgnoreForeign", e.Op, e.Cap, e.Addr)
}

// owns says whether b is hakmem's memory. It panics if it is not and that is not allowed. Whether a block begins there is
// for hakmem to check, when it frees or resizes it.
func (a *Allocator) owns(op string, b []byte) bool {
	p := unsafe.Pointer(unsafe.SliceData(b))
	if !hakmem.Foreign(p) {
		return true
	}
	if !a.options.IgnoreForeign {
		panic(&ForeignError{Op: op, Addr: uintptr(p), Cap: cap(b)})
	}
	return false
}

// round makes size a multiple of the alignment. hakmem aligns a block to the largest power of two that divides
// its size, and each of its sizes up to 32 KiB that is at least n, for an n that is a multiple of 64, is one too.
// So every block of a rounded size is aligned to 64 bytes at least.
func (a *Allocator) round(size int) uintptr {
	return (uintptr(size) + a.align - 1) &^ (a.align - 1) // cannot overflow: size is an int
}

// zeroed returns a block of n zero bytes.
func (a *Allocator) zeroed(n uintptr) (p unsafe.Pointer) {
	switch s := a.options.Site; {
	case a.align != DefaultAlign && s != 0:
		if p = hakmem.AlignedAllocAt(s, a.align, n); p != nil {
			clear(unsafe.Slice((*byte)(p), n))
		}
	case a.align != DefaultAlign:
		p = hakmem.AlignedCalloc(a.align, n)
	default:
		p = hakmem.CallocAt(s, 1, n)
	}
	if p == nil {
		panic(exhausted(n))
	}
	return p
}

// resized returns a block of n bytes with the first keep bytes of the one at p, which it takes, and zeroes behind them.
func (a *Allocator) resized(p unsafe.Pointer, keep, n uintptr) (moved unsafe.Pointer) {
	if a.align == DefaultAlign {
		moved = hakmem.ReallocZeroed(p, keep, n)
	} else {
		moved = hakmem.AlignedReallocZeroed(p, keep, n, a.align)
	}
	if moved == nil {
		panic(exhausted(n))
	}
	return moved
}

func negative(op string, size int) error {
	return fmt.Errorf("hakmemarrow: %s of %d bytes: sizes are not negative", op, size)
}

var errRefused = errors.New("hakmem had no memory for an Arrow buffer; hakmem.WriteStats says where it is")

func exhausted(n uintptr) error {
	return &hakmem.OutOfMemoryError{Size: n, Reason: errRefused}
}
