package workout

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// ReadStats is hakmem.ReadStats into a new Stats.
func ReadStats() (s hakmem.Stats) {
	hakmem.ReadStats(&s)
	return s
}

// MisuseOf calls do and returns the *MisuseError with which it panicked, or nil and a text that
// says what happened instead.
func MisuseOf(do func()) (*hakmem.MisuseError, string) {
	return testkit.PanicAs[*hakmem.MisuseError](do)
}

// NothingLost checks, before and after Trim, that everything is free again, that all invariants
// hold, and that blocks of all kinds can be allocated.
func NothingLost() error {
	for range 2 {
		if s := ReadStats(); s.Live != 0 || s.LiveBlocks != 0 || s.LateDoubleFrees != 0 {
			return fmt.Errorf("all freed: live %d bytes in %d blocks, %d late double frees", s.Live, s.LiveBlocks, s.LateDoubleFrees)
		}
		if err := hakmem.CheckInvariants(); err != nil {
			return err
		}
		hakmem.Trim()
	}
	if s := ReadStats(); s.InMagazines != 0 || s.Superslabs != 0 {
		return fmt.Errorf("all freed, trimmed: %d bytes in magazines, %d superslabs", s.InMagazines, s.Superslabs)
	}
	if n, err := Work(99, 64<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("normal work afterwards: %d failures: %v: %v", n, err, hakmem.Err())
	}
	if s := ReadStats(); s.Live != 0 {
		return fmt.Errorf("normal work afterwards: live %d bytes", s.Live)
	}
	return hakmem.CheckInvariants()
}

// GivenBack is NothingLost, and checks that after Trim no page is in use or dirty. The scavenger
// may run at the same time; it gives back the memory that it held while Trim ran.
func GivenBack() error {
	if err := ComesBack(); err != nil {
		return err
	}
	if err := NothingLost(); err != nil {
		return err
	}
	hakmem.Trim()
	s := ReadStats()
	if s.Scavenger.Used != 0 || s.Scavenger.Dirty != 0 || s.Superslabs != 0 || s.Large.CachedBlocks != 0 || s.Guard.Live != 0 {
		return fmt.Errorf("all freed, trimmed: %d bytes used, %d dirty, %d superslabs, %d cached large blocks, %d guarded blocks",
			s.Scavenger.Used, s.Scavenger.Dirty, s.Superslabs, s.Large.CachedBlocks, s.Guard.Live)
	}
	for _, x := range s.Sites {
		if x.LiveBlocks != 0 || x.LiveBytes != 0 {
			return fmt.Errorf("all freed: site %q has %d bytes in %d blocks", x.Name, x.LiveBytes, x.LiveBlocks)
		}
	}
	return nil
}

// ComesBack allocates until there is a region. A refused reservation is tried again, at growing
// intervals while allocations fail.
func ComesBack() error {
	failures := ReadStats().OutOfMemory
	for range 2*failures + 10 {
		if p := hakmem.Malloc(1); p != nil {
			hakmem.Free(p)
			return nil
		}
	}
	return fmt.Errorf("no region after %d failed allocations and twice as many more: %w", failures, hakmem.Err())
}

// Without checks every function of a hakmem that has no region.
func Without() error {
	site := hakmem.RegisterSite("nowhere")
	for what, p := range map[string]unsafe.Pointer{
		"Malloc(0)":       hakmem.Malloc(0),
		"Malloc(100)":     hakmem.Malloc(100),
		"Malloc(5000)":    hakmem.Malloc(5000),
		"Malloc(1 MiB)":   hakmem.Malloc(1 << 20),
		"MallocAt":        hakmem.MallocAt(site, 100),
		"MallocAt(1 MiB)": hakmem.MallocAt(site, 1<<20),
		"Calloc":          hakmem.Calloc(3, 100),
		"Calloc(1 MiB)":   hakmem.Calloc(1, 1<<20),
		"Realloc(nil)":    hakmem.Realloc(nil, 100),
		"AlignedAlloc":    hakmem.AlignedAlloc(4096, 100),
		"AlignedRealloc":  hakmem.AlignedRealloc(nil, 100, 4096),
	} {
		if p != nil {
			return fmt.Errorf("%s = %p without a region", what, p)
		}
	}
	for what, do := range map[string]func(){
		"Alloc":       func() { hakmem.Alloc(100) },
		"Alloc(0)":    func() { hakmem.Alloc(0) },
		"AllocZeroed": func() { hakmem.AllocZeroed(1 << 20) },
		"New":         func() { hakmem.New[int]() },
		"MakeSlice":   func() { hakmem.MakeSlice[int](10, 10) },
		"NewHeap":     func() { hakmem.NewHeap() },
		"Arena.Alloc": func() { hakmem.NewArena().Alloc(10, 8) },
		"NewIn":       func() { hakmem.NewIn[int](hakmem.NewArena()) },
	} {
		v := testkit.PanicOf(do)
		oom, ok := v.(*hakmem.OutOfMemoryError)
		if !ok {
			return fmt.Errorf("%s without a region: panic value %v, want *OutOfMemoryError", what, v)
		}
		if oom.Reason == nil || !strings.Contains(oom.Error(), "address space") {
			return fmt.Errorf("%s: %q does not say why", what, oom)
		}
	}
	hakmem.Free(nil)
	hakmem.Trim()
	var x [64]byte
	for what, do := range map[string]func(){
		"Free":       func() { hakmem.Free(unsafe.Pointer(&x)) },
		"UsableSize": func() { hakmem.UsableSize(unsafe.Pointer(&x)) },
		"Realloc":    func() { hakmem.Realloc(unsafe.Pointer(&x), 10) },
	} {
		if m, instead := MisuseOf(do); m == nil || m.Kind != "not hakmem's" {
			return fmt.Errorf("%s of a stack address without a region: %s %v", what, instead, m)
		}
	}
	err := hakmem.Err()
	if err == nil || !strings.Contains(err.Error(), "address space") {
		return fmt.Errorf("Err() = %v, want it to say that no address space could be reserved", err)
	}
	if s := ReadStats(); s.Reserved != 0 || s.Live != 0 || s.OutOfMemory == 0 || len(s.Errors) == 0 {
		return fmt.Errorf("statistics without a region: %+v", s)
	}
	return nil
}
