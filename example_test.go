// Some examples print the sizes of blocks, which are larger in programs built with -asan.
//go:build !asan

package hakmem_test

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/hakmem/hakmem"
)

func ExampleMalloc() {
	p := hakmem.Malloc(100)
	if p == nil {
		fmt.Println("out of memory")
		return
	}
	defer hakmem.Free(p)

	b := unsafe.Slice((*byte)(p), 100) // a view of the block, which p still owns
	copy(b, "outside the Go heap")
	fmt.Printf("%s, %d bytes usable\n", b[:19], hakmem.UsableSize(p))
	// Output: outside the Go heap, 112 bytes usable
}

func ExampleCalloc() {
	p := hakmem.Calloc(1000, 8) // zeroed
	defer hakmem.Free(p)
	fmt.Println(unsafe.Slice((*int64)(p), 1000)[999])
	fmt.Println(hakmem.Calloc(1<<40, 1<<40)) // the product overflows
	// Output:
	// 0
	// <nil>
}

func ExampleRealloc() {
	p := hakmem.Malloc(5)
	copy(unsafe.Slice((*byte)(p), 5), "grows")

	q := hakmem.Realloc(p, 5000)
	if q == nil {
		hakmem.Free(p) // p is still valid after a Realloc that fails
		return
	}
	defer hakmem.Free(q) // q, not p: the block at p is gone
	fmt.Printf("%s\n", unsafe.Slice((*byte)(q), 5))
	// Output: grows
}

func ExampleAlignedAlloc() {
	p := hakmem.AlignedAlloc(4096, 100)
	defer hakmem.Free(p)
	fmt.Println(uintptr(p) % 4096)
	// Output: 0
}

func ExampleFree() {
	p := hakmem.Malloc(64)
	hakmem.Free(p)

	defer func() {
		m := recover().(*hakmem.MisuseError)
		fmt.Println(m.Op, "-", m.Kind, "-", m.Class, "bytes")
	}()
	hakmem.Free(p) // a second time: refused, and nothing is damaged
	// Output: Free - double free - 64 bytes
}

func ExampleAlloc() {
	b := hakmem.Alloc(11)
	defer hakmem.FreeBytes(b) // the same b: not a sub-slice, not what append returned
	copy(b, "hello world")
	fmt.Println(string(b), len(b), cap(b))
	// Output: hello world 11 11
}

func ExampleNew() {
	type point struct{ X, Y float64 } // no Go pointers, because the collector would not see them
	p := hakmem.New[point]()
	defer hakmem.Delete(p)
	p.X = 3
	fmt.Println(*p)
	// Output: {3 0}
}

func ExampleNew_pointers() {
	type user struct {
		ID   int
		Name string
	}
	defer func() { fmt.Println(recover()) }()
	hakmem.New[user]()
	// Output: hakmem: type hakmem_test.user cannot live outside the Go heap: hakmem_test.user.Name is a Go string, which the collector would not see; keep an index or a copy of the bytes instead
}

func ExampleMakeSlice() {
	s := hakmem.MakeSlice[uint32](0, 1000)
	defer hakmem.FreeSlice(s)
	for i := range uint32(1000) {
		s = append(s, i*i) // stays within the capacity and so within the block
	}
	fmt.Println(len(s), s[999])
	// Output: 1000 998001
}

func ExampleHeap() {
	h := hakmem.NewHeap() // for one goroutine at a time
	p := h.Malloc(32)
	q := h.Malloc(32)
	h.Free(p)
	h.Close()

	hakmem.Free(q) // blocks outlive their Heap, and any goroutine may free them
	// Output:
}

func ExampleArena() {
	a := hakmem.NewArena()
	defer a.Close()
	for request := range 3 {
		ids := hakmem.MakeSliceIn[int](a, 0, 100)
		ids = append(ids, request)
		sum := hakmem.NewIn[float64](a)
		*sum += float64(ids[0])
		fmt.Println(*sum)
		a.Reset() // frees everything at once and keeps the memory
	}
	// Output:
	// 0
	// 1
	// 2
}

func ExampleMallocAt() {
	cache := hakmem.RegisterSite("session cache")
	p := hakmem.MallocAt(cache, 1000)
	q := hakmem.MallocAt(cache, 1000)

	var s hakmem.Stats
	report := func() {
		hakmem.ReadStats(&s)
		for _, x := range s.Sites {
			if x.Site == cache {
				fmt.Printf("%s: %d blocks, %d bytes\n", x.Name, x.LiveBlocks, x.LiveBytes)
			}
		}
	}
	report()
	hakmem.Free(p)
	report()
	hakmem.Free(q)
	// Output:
	// session cache: 2 blocks, 2048 bytes
	// session cache: 1 blocks, 1024 bytes
}

func ExampleReadStats() {
	var before, after hakmem.Stats
	hakmem.ReadStats(&before)
	p := hakmem.Malloc(1 << 20)
	hakmem.ReadStats(&after) // exact, because no other goroutine allocates meanwhile
	fmt.Println(after.Live-before.Live, after.LiveBlocks-before.LiveBlocks)
	hakmem.Free(p)
	// Output: 1048576 1
}

func ExampleGoodSize() {
	fmt.Println(hakmem.GoodSize(100), hakmem.GoodSize(1000), hakmem.GoodSize(100_000))
	// Output: 112 1024 106496
}

// Configure must come before the first allocation, in main or in an init function. It is not run
// here, because other examples have allocated already.
func ExampleConfigure() {
	err := hakmem.Configure(hakmem.Options{
		Mode:        "minimal", // hold as little as possible in caches
		RegionBytes: 8 << 30,
	})
	if err != nil {
		fmt.Println(err)
	}
}

func ExampleSetMemoryLimit() {
	if err := hakmem.SetMemoryLimit(48<<20, 64<<20); err != nil {
		fmt.Println(err)
	}
	p := hakmem.Malloc(100 << 20)
	fmt.Println(p == nil)
	if err := hakmem.SetMemoryLimit(0, 0); err != nil { // no limit
		fmt.Println(err)
	}
	p = hakmem.Malloc(100 << 20)
	fmt.Println(p == nil)
	hakmem.Free(p)
	// Output:
	// true
	// false
}

func ExampleCatchFaults() {
	// With HAKMEM_GUARD=1/1 an access behind this block, or to it after its free, would be reported
	// with the block and the stacks of its allocation and its free.
	hakmem.CatchFaults(func() {
		b := hakmem.Alloc(100)
		b[99] = 1
		hakmem.FreeBytes(b)
		fmt.Println("no fault")
	})
	// Output: no fault
}

func ExampleLiveBlocks() {
	site := hakmem.RegisterSite("example")
	p := hakmem.MallocAt(site, 100)
	for b := range hakmem.LiveBlocks() {
		if b.Site == site {
			fmt.Println(b.SiteName, b.Size, b.Addr == uintptr(p))
			hakmem.Free(b.Pointer()) // the loop may free the block it is given
		}
	}
	// Output: example 112 true
}

func ExampleOwns() {
	free := func(p unsafe.Pointer) { // of a program whose buffers come from several places
		if !hakmem.Owns(p) {
			fmt.Println("not hakmem's: left alone")
			return
		}
		hakmem.Free(p)
		fmt.Println("freed")
	}
	free(hakmem.Malloc(100))
	free(unsafe.Pointer(new([100]byte)))
	// Output:
	// freed
	// not hakmem's: left alone
}

func ExamplePointer() {
	type node struct { // an address as a number: a block must not hold Go pointers
		value int
		next  uintptr
	}
	var first uintptr
	for i := range 3 {
		n := hakmem.New[node]()
		n.value, n.next = i, first
		first = uintptr(unsafe.Pointer(n))
	}
	for first != 0 {
		n := (*node)(hakmem.Pointer(first))
		fmt.Println(n.value)
		first = n.next
		hakmem.Delete(n)
	}
	// Output:
	// 2
	// 1
	// 0
}

func ExampleExplainAddress() {
	p := hakmem.MallocAt(hakmem.RegisterSite("index"), 100)
	_, text, _ := strings.Cut(hakmem.ExplainAddress(uintptr(p)+5), ": address ") // without the numbers
	text = text[strings.Index(text, "byte"):strings.Index(text, " at 0x")] + text[strings.Index(text, ", "):]
	fmt.Println(text)
	hakmem.Free(p)
	// Output: byte 5 of a block of 112 bytes, which is live, site "index"
}

func ExampleAppend() {
	var s []uint32 // nil: the first Append begins a block
	for i := range uint32(1000) {
		s = hakmem.Append(s, i*i)
	}
	fmt.Println(len(s), s[999], hakmem.Owns(unsafe.Pointer(&s[0])))
	hakmem.FreeSlice(s) // the last result; earlier ones are gone
	// Output: 1000 998001 true
}

func ExampleGrow() {
	s := hakmem.Grow([]uint32(nil), 1000)
	defer hakmem.FreeSlice(s) // the same block: its capacity suffices for all that follows
	for i := range uint32(1000) {
		s = append(s, i) // Go's own append, at its full speed
	}
	fmt.Println(len(s), hakmem.Owns(unsafe.Pointer(&s[0])))
	// Output: 1000 true
}

func ExampleClip() {
	s := hakmem.MakeSlice[byte](10, 100_000)
	s = hakmem.Clip(s) // 10 bytes are left of what was a guess
	defer hakmem.FreeSlice(s)
	fmt.Println(len(s), cap(s), hakmem.UsableSize(unsafe.Pointer(&s[0])))
	// Output: 10 10 16
}

func ExampleReallocZeroed() {
	p := hakmem.Calloc(4, 8)
	copy(unsafe.Slice((*int64)(p), 4), []int64{1, 2, 3, 4})
	p = hakmem.ReallocZeroed(p, 4*8, 6*8)
	defer hakmem.Free(p)
	fmt.Println(unsafe.Slice((*int64)(p), 6))
	// Output: [1 2 3 4 0 0]
}

func ExampleAlignedCalloc() {
	p := hakmem.AlignedCalloc(64, 1000) // for instructions that want cache lines
	defer hakmem.Free(p)
	fmt.Println(uintptr(p)%64, unsafe.Slice((*byte)(p), 1000)[999])
	// Output: 0 0
}

func ExamplePointerFree() {
	type user struct{ Name string }
	fmt.Println(hakmem.PointerFree[[4]float64]())
	fmt.Println(hakmem.PointerFree[user]())
	// Output:
	// <nil>
	// hakmem: type hakmem_test.user cannot live outside the Go heap: hakmem_test.user.Name is a Go string, which the collector would not see; keep an index or a copy of the bytes instead
}

func ExampleMakeSliceAt() {
	site := hakmem.RegisterSite("queue")
	s := hakmem.MakeSliceAt[uint64](site, 0, 10)
	for i := range uint64(100) {
		s = hakmem.Append(s, i) // the block moves, and stays the site's
	}
	for b := range hakmem.LiveBlocks() {
		if b.Site == site {
			fmt.Println(b.SiteName, b.Size)
		}
	}
	hakmem.FreeSlice(s)
	// Output: queue 1280
}
