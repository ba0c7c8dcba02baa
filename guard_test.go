package hakmem_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/testkit/workout"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Tests of HAKMEM_GUARD: an access outside a guarded block, or after its free, faults, and
// CatchFaults reports which access it was.

//go:noinline
func allocateGuarded(size uintptr) unsafe.Pointer { return hakmem.Malloc(size) }

//go:noinline
func freeGuarded(p unsafe.Pointer) { hakmem.Free(p) }

// touch reads or writes the byte n bytes from p, inside CatchFaults.
func touch(p unsafe.Pointer, n int, write bool) (m *hakmem.MisuseError, instead any) {
	m, text := workout.MisuseOf(func() {
		hakmem.CatchFaults(func() {
			b := (*byte)(unsafe.Add(p, n))
			if write {
				*b = 1
			} else {
				sinkByte = *b
			}
		})
	})
	if text != "it returned" {
		instead = text
	}
	return m, instead
}

var sinkByte byte

var _ = testkit.Child("guarded always", guardedAlways)

func guardedAlways(string) error {
	for _, size := range []int{1, 8, 16, 100, 1000, 4096, 5000, 40_000, 1 << 20, 3 << 20} {
		left, right := 0, 0
		for range 40 {
			p := allocateGuarded(uintptr(size))
			if n := hakmem.UsableSize(p); n != uintptr(size) || uintptr(p)%16 != 0 {
				return fmt.Errorf("%p of %d bytes has %d", p, size, n)
			}
			testkit.Fill(p, uintptr(size), 1)
			page := uintptr(os.Getpagesize())
			for _, write := range []bool{false, true} {
				// Where a page boundary coincides with the block's start or end, the next byte
				// faults.
				if m, instead := touch(p, -1, write); m != nil {
					left++
					if m.Kind != "buffer underflow" || m.Offset != 1 || m.Block != uintptr(p) || m.Class != uintptr(size) {
						return fmt.Errorf("%d bytes, byte -1: %+v", size, m)
					}
				} else if instead != nil {
					return fmt.Errorf("%d bytes, byte -1: %v", size, instead)
				} else if write {
					*(*byte)(unsafe.Add(p, -1)) = 0xCA // restore the byte
				}
				// A block is as aligned as it would be without its guards, so one that ends at a guard
				// page may leave some bytes before it.
				good := int(hakmem.GoodSize(uintptr(size)))
				behind := min((size+good&-good-1)&^(good&-good-1), (size+int(page)-1)&^(int(page)-1))
				if m, _ := touch(p, behind, write); m != nil {
					right++
					if m.Kind != "buffer overflow" || m.Offset != uintptr(behind) || !strings.Contains(m.Stacks(), "allocateGuarded") {
						return fmt.Errorf("%d bytes, byte %d: %+v\n%s", size, behind, m, m.Stacks())
					}
				} else if write {
					*(*byte)(unsafe.Add(p, behind)) = 0xCA
				}
				far := int((uintptr(p)+uintptr(size)+page-1)&^(page-1)-uintptr(p)) + int(page)/2
				if m, _ := touch(p, far, write); m == nil || m.Kind != "buffer overflow" || m.Offset != uintptr(far) {
					return fmt.Errorf("%d bytes, byte %d, in the guard page: %+v", size, far, m)
				}
			}
			if size%16 != 0 { // the bytes up to the alignment are checked when the block is freed
				b := (*byte)(unsafe.Add(p, size))
				*b ^= 1
				m, instead := workout.MisuseOf(func() { freeGuarded(p) })
				if m == nil || m.Kind != "buffer overflow" || m.Offset != uintptr(size) {
					return fmt.Errorf("%d bytes, byte %d written: %+v %v", size, size, m, instead)
				}
				*b ^= 1
			}
			if m, _ := workout.MisuseOf(func() { freeGuarded(unsafe.Add(p, 16)) }); size > 16 && (m == nil || m.Kind != interior) {
				return fmt.Errorf("%d bytes, interior: %+v", size, m)
			}
			freeGuarded(p)
			for _, n := range []int{0, size / 2, size - 1} {
				m, instead := touch(p, n, n%2 == 0)
				if m == nil || m.Kind != "use after free" || m.Offset != uintptr(n) || !strings.Contains(m.Stacks(), "freeGuarded") || !strings.Contains(m.Stacks(), "allocateGuarded") {
					return fmt.Errorf("%d bytes, byte %d after free: %+v %v", size, n, m, instead)
				}
			}
			if m, instead := touch(p, -1, false); m == nil || m.Kind != "buffer underflow" || m.Offset != 1 || !strings.Contains(m.Stacks(), "freeGuarded") {
				return fmt.Errorf("%d bytes, byte -1 after free: %+v %v", size, m, instead)
			}
			for _, use := range []func(){func() { freeGuarded(p) }, func() { hakmem.UsableSize(p) }, func() { hakmem.Realloc(p, 10) }} {
				if m, _ := workout.MisuseOf(use); m == nil || m.Kind != "double free" && m.Kind != "use after free" || !strings.Contains(m.Stacks(), "freeGuarded") {
					return fmt.Errorf("%d bytes, freed and used: %+v", size, m)
				}
			}
		}
		if left == 0 || right == 0 {
			return fmt.Errorf("%d bytes: %d faults before and %d behind 40 blocks", size, left, right)
		}
	}
	// Faults at other addresses, and panics, pass through.
	if v := testkit.PanicOf(func() { hakmem.CatchFaults(func() { panic("mine") }) }); v != "mine" {
		return fmt.Errorf("a panic became %v", v)
	}
	if v := testkit.PanicOf(func() { hakmem.CatchFaults(func() { sinkByte = *(*byte)(unsafe.Add(nil, 1<<40)) }) }); v == nil {
		return fmt.Errorf("a fault elsewhere passed unseen")
	} else if _, ours := v.(*hakmem.MisuseError); ours {
		return fmt.Errorf("a fault elsewhere became %v", v)
	}
	hakmem.CatchFaults(func() {})
	if n, err := workout.Work(1, 16<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %v", n, err)
	}
	s := workout.ReadStats()
	if s.Guard.Live != 0 || s.Guard.Samples < 400 || s.Live != 0 {
		return fmt.Errorf("all freed: %+v, live %d", s.Guard, s.Live)
	}
	return workout.NothingLost()
}

var _ = testkit.Child("guarded rate", guardedRate)

// guardedRate checks that blocks of all sizes are sampled at the rate asked for.
func guardedRate(string) error {
	slots := make([]unsafe.Pointer, 400)
	const n = 2_000_000
	for i := range n {
		s := &slots[i%len(slots)]
		hakmem.Free(*s)
		*s = hakmem.Malloc(uintptr(i%1000) + 1)
		*(*byte)(*s) = 1
	}
	for _, p := range slots {
		hakmem.Free(p)
	}
	s := workout.ReadStats()
	if got, want := s.Guard.Samples+s.Guard.Skipped, uint64(n/1000); got < want*8/10 || got > want*12/10 {
		return fmt.Errorf("%d samples of %d blocks at 1/1000, want about %d", got, n, want)
	}
	if s.Guard.Samples == 0 || s.Guard.Live != 0 {
		return fmt.Errorf("%+v", s.Guard)
	}
	return workout.Churn(3)
}

var _ = testkit.Child("guarded rate of kinds", guardedRateOfKinds)

// guardedRateOfKinds checks each function and size by itself: every allocation is counted, and none
// is counted twice.
func guardedRateOfKinds(string) error {
	h := hakmem.NewHeap()
	defer h.Close()
	site := hakmem.RegisterSite("guarded kinds")
	for name, alloc := range map[string]func() unsafe.Pointer{
		"Malloc(20000)":           func() unsafe.Pointer { return hakmem.Malloc(20_000) },
		"Malloc(40000)":           func() unsafe.Pointer { return hakmem.Malloc(40_000) },
		"MallocAt(100)":           func() unsafe.Pointer { return hakmem.MallocAt(site, 100) },
		"MallocAt(40000)":         func() unsafe.Pointer { return hakmem.MallocAt(site, 40_000) },
		"AlignedAlloc(64, 100)":   func() unsafe.Pointer { return hakmem.AlignedAlloc(64, 100) },
		"Calloc(1, 100)":          func() unsafe.Pointer { return hakmem.Calloc(1, 100) },
		"Calloc(1, 40000)":        func() unsafe.Pointer { return hakmem.Calloc(1, 40_000) },
		"Heap.Malloc(100)":        func() unsafe.Pointer { return h.Malloc(100) },
		"Heap.Malloc(40000)":      func() unsafe.Pointer { return h.Malloc(40_000) },
		"Heap.Calloc(1, 100)":     func() unsafe.Pointer { return h.Calloc(1, 100) },
		"Heap.Calloc(1, 40000)":   func() unsafe.Pointer { return h.Calloc(1, 40_000) },
		"MakeSlice[byte](100)":    func() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(hakmem.MakeSlice[byte](100, 100))) },
		"MakeSlice[byte](40000)":  func() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(hakmem.MakeSlice[byte](40_000, 40_000))) },
		"CallocAt(100)":           func() unsafe.Pointer { return hakmem.CallocAt(site, 1, 100) },
		"CallocAt(40000)":         func() unsafe.Pointer { return hakmem.CallocAt(site, 1, 40_000) },
		"AlignedCalloc(40000)":    func() unsafe.Pointer { return hakmem.AlignedCalloc(64, 40_000) },
		"AlignedAllocAt(100)":     func() unsafe.Pointer { return hakmem.AlignedAllocAt(site, 64, 100) },
		"AlignedAlloc(64, 40000)": func() unsafe.Pointer { return hakmem.AlignedAlloc(64, 40_000) },
	} {
		before := workout.ReadStats().Guard
		const n = 10_000
		var live [50]unsafe.Pointer // enough that the Heap is refilled, which is when its calls are counted
		for i := range n {
			p := &live[i%len(live)]
			hakmem.Free(*p)
			*p = alloc()
		}
		for _, p := range live {
			hakmem.Free(p)
		}
		after := workout.ReadStats().Guard
		// The expected number is 100 with a standard deviation of 10. The bounds are six standard
		// deviations.
		if got := after.Samples + after.Skipped - before.Samples - before.Skipped; got < n/100*4/10 || got > n/100*16/10 {
			return fmt.Errorf("%s: %d samples of %d blocks at 1/100, want about %d", name, got, n, n/100)
		}
	}
	return nil
}

func TestGuard(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; the sanitizer ends the process where CatchFaults would report")
	}
	testkit.InChild(t, "guarded always", "", "HAKMEM_GUARD=1/1")
	testkit.InChild(t, "guarded rate", "", "HAKMEM_GUARD=1/1000")
	testkit.InChild(t, "guarded rate", "", "HAKMEM_GUARD=1/1000", "HAKMEM_HARDEN=1")
	testkit.InChild(t, "guarded rate of kinds", "", "HAKMEM_GUARD=1/100")
	testkit.InChild(t, "guarded rate of kinds", "", "HAKMEM_GUARD=1/100", "HAKMEM_HARDEN=1")
}

// kindOf frees p, which is invalid, and wants a misuse of the given kind.
func kindOf(what string, p unsafe.Pointer, kind string) error {
	m, instead := workout.MisuseOf(func() { hakmem.Free(p) })
	if m == nil || m.Kind != kind || m.Addr != uintptr(p) {
		return fmt.Errorf("Free of %s: %s %v, want %q", what, instead, m, kind)
	}
	return nil
}

var _ = testkit.Child("guarded kinds", guardedKinds)

func guardedKinds(string) error {
	const size = 100
	p := hakmem.Malloc(size)
	freed := hakmem.Malloc(size)
	last := hakmem.Malloc(size)
	hakmem.Free(freed)
	for _, c := range []struct {
		what string
		p    unsafe.Pointer
		kind string
	}{
		{"a block's inside", testkit.Wild(p, 16), "interior pointer"},
		{"an unaligned pointer", testkit.Wild(p, 8), "unaligned pointer"},
		{"a freed block", freed, "double free"},
		{"a freed block's inside", testkit.Wild(freed, 16), "never allocated"},
		{"an address among guarded blocks that was never used", testkit.Wild(last, 1<<30), "never allocated"},
	} {
		if err := kindOf(c.what, c.p, c.kind); err != nil {
			return err
		}
	}
	// Write before a block that ends at its guard page. Half of the blocks do; the others begin at
	// a page.
	for range 200 {
		p := hakmem.Malloc(size)
		if uintptr(p)%uintptr(os.Getpagesize()) == 0 {
			hakmem.Free(p)
			continue
		}
		b := (*byte)(testkit.Wild(p, -3))
		was := *b
		*b = 0
		if m, _ := workout.MisuseOf(func() { hakmem.Free(p) }); m == nil || m.Kind != "buffer underflow" || m.Offset != 3 {
			return fmt.Errorf("a write 3 bytes before a block: %v", m)
		}
		*b = was
		hakmem.Free(p)
		return nil
	}
	return errors.New("of 200 guarded blocks all begin at a page")
}

func TestGuardedKinds(t *testing.T) { testkit.InChild(t, "guarded kinds", "", "HAKMEM_GUARD=1/1") }
