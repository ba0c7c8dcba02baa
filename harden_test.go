package hakmem_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
)

// Tests of HAKMEM_HARDEN=1: a write behind a block, or after its free, is found.

var hardSizes = []uintptr{0, 1, 8, 15, 16, 17, 100, 1000, 1024, 1025, 5000, 32 << 10, 32<<10 + 1, 100_000, 1 << 20, 2 << 20, 3 << 20}

var _ = testkit.Child("hardened", hardened)

func hardened(string) error {
	// Correct programs are not disturbed.
	if n, err := workout.Work(1, 64<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %v: %v", n, err, hakmem.Err())
	}
	for _, size := range hardSizes {
		p := hakmem.Malloc(size)
		if n := hakmem.UsableSize(p); n != size {
			return fmt.Errorf("UsableSize of %d bytes: %d", size, n)
		}
		testkit.Fill(p, size, 1)
		for _, far := range []uintptr{0, 7, 31} { // an overflow by 1, 8, 32 bytes
			if size+far >= hakmem.GoodSize(size+16) {
				continue // the byte lies in the next block
			}
			b := (*byte)(unsafe.Add(p, size+far))
			old := *b
			*b ^= 0x55
			for _, use := range []struct {
				op   string
				call func()
			}{{"Free", func() { hakmem.Free(p) }}, {"UsableSize", func() { hakmem.UsableSize(p) }}, {"Realloc", func() { hakmem.Realloc(p, 10) }}} {
				m, instead := workout.MisuseOf(use.call)
				if m == nil || m.Kind != "buffer overflow" {
					return fmt.Errorf("%s of %d bytes, written at +%d: %v %v", use.op, size, far, m, instead)
				}
				if m.Block != uintptr(p) || far < 8 && m.Offset != size+far || !strings.Contains(m.Error(), "was touched") {
					return fmt.Errorf("%s of %d bytes, written at +%d: %+v: %v", use.op, size, far, m, m)
				}
			}
			*b = old
		}
		if !testkit.Intact(p, size, 1) {
			return fmt.Errorf("%d bytes: contents changed", size)
		}
		hakmem.Free(p)
		if m, _ := workout.MisuseOf(func() { hakmem.Free(p) }); m == nil || m.Kind != "double free" {
			return fmt.Errorf("%d bytes: a second free: %v", size, m)
		}
	}
	// If the sealed size itself is overwritten, the report names a byte behind all the bytes that
	// the caller could have had.
	p := hakmem.Malloc(100)
	end := hakmem.GoodSize(100+16) - 8
	seal := (*uint64)(unsafe.Add(p, end))
	old := *seal
	*seal = 1
	if m, instead := workout.MisuseOf(func() { hakmem.Free(p) }); m == nil || m.Kind != "buffer overflow" || m.Offset != end || m.Class != end {
		return fmt.Errorf("the sealed size written over: %+v %v", m, instead)
	}
	*seal = old
	hakmem.Free(p)
	// A write before the block hits the block before it, if there is a neighbour. A write after
	// free is found when the block leaves the quarantine.
	for _, size := range hardSizes {
		for _, at := range []uintptr{0, size / 2, size - 1} {
			if size == 0 {
				continue
			}
			p := hakmem.Malloc(size)
			hakmem.Free(p)
			*(*byte)(unsafe.Add(p, at)) ^= 1
			m, _ := workout.MisuseOf(hakmem.Trim)
			if m == nil || m.Kind != "write after free" || m.Block != uintptr(p) || m.Offset != at || !m.Late {
				return fmt.Errorf("%d bytes, byte %d written after free: %+v", size, at, m)
			}
		}
	}
	// The quarantine also lets blocks go without being full.
	h := hakmem.NewHeap() // a Heap has a quarantine of its own: which P serves a call is chance
	defer h.Close()
	p = h.Malloc(64)
	h.Free(p)
	*(*byte)(unsafe.Add(p, 10)) = 1
	found := false
	for range 3000 {
		m, _ := workout.MisuseOf(func() { h.Free(h.Malloc(64)) })
		found = found || m != nil && m.Kind == "write after free" && m.Offset == 10
	}
	if !found {
		return fmt.Errorf("a write after free was not found in 3000 frees")
	}
	// Blocks are not handed out in ascending order of address.
	ascents, last := 0, uintptr(0)
	for range 1000 {
		p := uintptr(hakmem.Malloc(200))
		if p > last {
			ascents++
		}
		last = p
	}
	if ascents < 300 || ascents > 700 {
		return fmt.Errorf("%d of 1000 blocks lie above the one before: that is no random order", ascents)
	}
	return nil
}

var _ = testkit.Child("hardened work", hardenedWork)

// hardenedWork checks, with many goroutines, that the quarantine keeps no block for good.
func hardenedWork(string) error {
	if err := workout.Churn(7); err != nil {
		return err
	}
	a := hakmem.NewArena()
	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		n := r.UintN(5000)
		testkit.Fill(a.Alloc(uintptr(n), 16), uintptr(n), 3)
	}
	a.Close()
	h := hakmem.NewHeap()
	for i := range uintptr(2000) {
		p := h.Malloc(i)
		testkit.Fill(p, i, 1)
		h.Free(p)
	}
	h.Close()
	s := hakmem.MakeSlice[uint64](10, 100)
	hakmem.FreeSlice(s)
	if z := hakmem.AllocZeroed(100_000); !testkit.IsZero(unsafe.Pointer(&z[0]), 100_000) {
		return fmt.Errorf("AllocZeroed is not zero")
	} else {
		hakmem.FreeBytes(z)
	}
	p := hakmem.AlignedAlloc(4096, 100)
	if uintptr(p)%4096 != 0 {
		return fmt.Errorf("AlignedAlloc(4096) = %p", p)
	}
	hakmem.Free(p)
	return workout.NothingLost()
}

func TestHarden(t *testing.T) {
	if asan.On {
		t.Log("skipped: -asan; the sanitizer ends the process where hakmem would report")
	} else {
		testkit.InChild(t, "hardened", "", "HAKMEM_HARDEN=1")
	}
	testkit.InChild(t, "hardened work", "", "HAKMEM_HARDEN=1", "HAKMEM_DECAY_MS=20")
}

var _ = testkit.Child("hardened size", hardenedSize)

// hardenedSize checks that an overwritten sealed size behind a block is found, and that sizes which
// leave no room for it are refused.
func hardenedSize(string) error {
	for _, size := range []uintptr{^uintptr(0), ^uintptr(0) - 15} {
		if p := hakmem.Malloc(size); p != nil {
			return fmt.Errorf("Malloc(%#x) = %p", size, p)
		}
	}
	p := hakmem.Malloc(100)
	usable := hakmem.GoodSize(100 + 16)
	at := (*uint64)(testkit.Wild(p, usable-8))
	was := *at
	*at = 0xFFFF
	m, instead := workout.MisuseOf(func() { hakmem.Free(p) })
	if m == nil || m.Kind != "buffer overflow" || m.Offset != usable-8 {
		return fmt.Errorf("the size written over: %s %v, want an overflow at %d", instead, m, usable-8)
	}
	*at = was
	hakmem.Free(p)
	return kindOf("a block that was freed", p, "double free")
}

func TestHardenedSize(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; the sanitizer ends the process at the write that this test makes")
	}
	testkit.InChild(t, "hardened size", "", "HAKMEM_HARDEN=1")
}
