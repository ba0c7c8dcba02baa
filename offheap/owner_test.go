package offheap_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/offheap"
)

// blocksOf returns what All yields, in ascending order.
func blocksOf(o *offheap.Owner) (list []uintptr) {
	for p := range o.All() {
		list = append(list, uintptr(p))
	}
	slices.Sort(list)
	return list
}

func bytesAt(p unsafe.Pointer, n int) []byte { return unsafe.Slice((*byte)(p), n) }

func TestOwner(t *testing.T) { inModes(t, "owner") }

var _ = testkit.Child("owner", func(string) error {
	before := liveBlocks()
	for name, o := range map[string]*offheap.Owner{
		"zero":      new(offheap.Owner),
		"NewOwner":  offheap.NewOwner(),
		"with site": offheap.NewOwner(offheap.OwnerOptions{Site: hakmem.RegisterSite("owner test"), KeepDropped: true}),
	} {
		if err := useOwner(o); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if n := liveBlocks(); n != before {
		return fmt.Errorf("%d live blocks, before %d", n, before)
	}
	return hakmem.CheckInvariants()
})

// useOwner does everything with an Owner, and closes it while it has blocks.
func useOwner(o *offheap.Owner) error {
	if o.Len() != 0 || o.Bytes() != 0 || o.Owns(nil) || len(blocksOf(o)) != 0 {
		return errors.New("a new Owner has blocks")
	}
	o.Trim()
	o.Free(nil)
	var blocks []unsafe.Pointer
	total := uint64(0)
	for i, size := range []uintptr{0, 1, 16, 100, 1000, 1025, 30_000, 40_000, 100_000, 3 << 20} {
		p := o.Malloc(size)
		z := o.Calloc(size, 3)
		a := o.AlignedAlloc(4096, size)
		for _, p := range []unsafe.Pointer{p, z, a} {
			if p == nil || !o.Owns(p) || o.Owns(unsafe.Add(p, 1)) || !hakmem.Owns(p) {
				return fmt.Errorf("%d bytes at %p are not owned", size, p)
			}
			total += uint64(hakmem.UsableSize(p))
			blocks = append(blocks, p)
		}
		if uintptr(a)%4096 != 0 {
			return fmt.Errorf("AlignedAlloc gives %p", a)
		}
		if !testkit.IsZero(z, 3*size) {
			return fmt.Errorf("Calloc of 3·%d bytes is not zero", size)
		}
		testkit.Fill(p, size, uint64(i))
	}
	if o.Len() != len(blocks) || o.Bytes() != total {
		return fmt.Errorf("Len %d, Bytes %d, want %d and %d", o.Len(), o.Bytes(), len(blocks), total)
	}
	want := make([]uintptr, len(blocks))
	for i, p := range blocks {
		want[i] = uintptr(p)
	}
	slices.Sort(want)
	if got := blocksOf(o); !slices.Equal(got, want) {
		return fmt.Errorf("All yields %#x, want %#x", got, want)
	}
	if o.Malloc(1<<50) != nil || o.Realloc(blocks[3], 1<<50) != nil || o.Calloc(1<<40, 1<<40) != nil || o.AlignedAlloc(64, 1<<50) != nil || o.Len() != len(blocks) {
		return errors.New("there is a block larger than all memory")
	}
	// Some move, and some do not.
	p := blocks[9] // 100 bytes
	testkit.Fill(p, 100, 77)
	for _, size := range []uintptr{101, 2000, 50_000, 60_000, 5 << 20, 100} {
		q := o.Realloc(p, size)
		if q == nil || !o.Owns(q) || q != p && o.Owns(p) || !testkit.Intact(q, 100, 77) || o.Len() != len(blocks) {
			return fmt.Errorf("Realloc to %d bytes: %p, from %p", size, q, p)
		}
		p = q
	}
	blocks[9] = p
	if q := o.Realloc(nil, 10); !o.Owns(q) {
		return errors.New("Realloc of nil")
	} else {
		o.Free(q)
	}
	for i, p := range blocks {
		if i%2 == 0 {
			o.Free(p)
			if o.Owns(p) {
				return fmt.Errorf("%p was freed and is owned", p)
			}
		}
	}
	o.Trim()
	if o.Len() != len(blocks)/2 {
		return fmt.Errorf("%d blocks", o.Len())
	}
	for p := range o.All() { // the body may free and allocate
		o.Free(p)
		if o.Len() < 10 {
			break
		}
		o.Free(o.Malloc(10))
	}
	seen := 0
	for range o.All() {
		if seen == 0 {
			o.Close()
		}
		seen++
	}
	if seen != 1 {
		return fmt.Errorf("All goes on after Close, %d times", seen)
	}
	return nil
}

// TestOwnerCloses: of many blocks, none is left, and no other block is touched.
func TestOwnerCloses(t *testing.T) {
	hakmemtest.NoLeaks(t)
	mine := hakmem.Alloc(100)
	defer hakmem.FreeBytes(mine)
	copy(mine, text(100))
	other := offheap.NewOwner()
	defer other.Close()
	theirs := bytesAt(other.Malloc(100), 100)
	copy(theirs, text(100))
	r := newRand(t, 1)
	for range 3 {
		var o offheap.Owner
		n := 5000
		if testing.Short() {
			n = 1000
		}
		for range n {
			p := o.Malloc(testkit.RandomSize(r))
			if r.IntN(3) == 0 {
				o.Free(p)
			}
		}
		o.Close()
	}
	if !bytes.Equal(mine, text(100)) || !bytes.Equal(theirs, text(100)) {
		t.Error("Close has changed blocks of others")
	}
}

// TestOwnerMisuse: a pointer that is no block of the Owner is refused by name, and nothing is changed.
func TestOwnerMisuse(t *testing.T) { inModes(t, "owner misuse") }

var _ = testkit.Child("owner misuse", func(string) error {
	var o offheap.Owner
	defer o.Close()
	other := offheap.NewOwner()
	defer other.Close()
	block, theirs, freed := o.Malloc(100), other.Malloc(100), o.Malloc(5000)
	copy(bytesAt(block, 100), text(100))
	copy(bytesAt(theirs, 100), text(100))
	o.Free(freed)
	mine := hakmem.Malloc(100)
	defer hakmem.Free(mine)
	for what, x := range map[string]struct {
		p                unsafe.Pointer
		onFree, onChange string
	}{
		"a freed block":      {freed, "double free", "use after free"},
		"a middle":           {unsafe.Add(block, 16), "interior pointer", "interior pointer"},
		"an odd address":     {unsafe.Add(block, 3), "unaligned pointer", "unaligned pointer"},
		"Go's heap":          {unsafe.Pointer(new([100]byte)), "not hakmem's", "not hakmem's"},
		"another's block":    {theirs, "not the owner's", "not the owner's"},
		"the user's block":   {mine, "not the owner's", "not the owner's"},
		"a number of no use": {testkit.Wild(nil, 16), "not hakmem's", "not hakmem's"},
	} {
		for op, do := range map[string]func(*offheap.Owner){
			"Owner.Free":    func(o *offheap.Owner) { o.Free(x.p) },
			"Owner.Realloc": func(o *offheap.Owner) { o.Realloc(x.p, 10) },
		} {
			for _, o := range []*offheap.Owner{&o, new(offheap.Owner)} {
				m, instead := testkit.PanicAs[*hakmem.MisuseError](func() { do(o) })
				want := x.onFree
				if op == "Owner.Realloc" {
					want = x.onChange
				}
				if m == nil || m.Op != op || m.Kind != want || m.Addr != uintptr(x.p) {
					return fmt.Errorf("%s of %s: %+v %s, want %s", op, what, m, instead, want)
				}
				if want == "not the owner's" && (m.Block != m.Addr || m.Class < 100 || !strings.Contains(m.Error(), "free it where it was allocated")) {
					return fmt.Errorf("%s of %s: %v", op, what, m)
				}
			}
		}
		if o.Owns(x.p) {
			return fmt.Errorf("%s is owned", what)
		}
	}
	if o.Len() != 1 || other.Len() != 1 || !bytes.Equal(bytesAt(block, 100), text(100)) || !bytes.Equal(bytesAt(theirs, 100), text(100)) {
		return errors.New("a block has changed")
	}
	return nil
})

func TestOwnerHandle(t *testing.T) {
	hakmemtest.NoLeaks(t)
	mustPanicNaming(t, "two options", func() { offheap.NewOwner(offheap.OwnerOptions{}, offheap.OwnerOptions{}) }, "NewOwner", "2 OwnerOptions")
	mustPanicNaming(t, "a site", func() { offheap.NewOwner(offheap.OwnerOptions{Site: 60_000}) }, "60000", "RegisterSite")
	mustPanicNaming(t, "an alignment", func() { new(offheap.Owner).AlignedAlloc(3, 1) }, "alignment 3")
	ops := func(o *offheap.Owner) map[string]func() {
		return map[string]func(){
			"Owner.Malloc": func() { o.Malloc(1) }, "Owner.Calloc": func() { o.Calloc(1, 1) }, "Owner.AlignedAlloc": func() { o.AlignedAlloc(16, 1) },
			"Owner.Realloc": func() { o.Realloc(unsafe.Pointer(o), 1) }, "Owner.Free": func() { o.Free(unsafe.Pointer(o)) },
			"Owner.Owns": func() { o.Owns(nil) }, "Owner.Len": func() { o.Len() }, "Owner.Bytes": func() { o.Bytes() },
			"Owner.Trim": o.Trim, "Owner.Close": o.Close, "Owner.All": func() { blocksOf(o) },
		}
	}
	for kind, o := range map[string]*offheap.Owner{"closed owner": new(offheap.Owner), "copied owner": new(offheap.Owner)} {
		if kind == "closed owner" {
			o.Malloc(1)
			o.Close()
			o.Free(nil)
		} else {
			o.Malloc(1)
			defer o.Close()
			o = testkit.CopyOf(o)
		}
		for op, do := range ops(o) {
			m, instead := testkit.PanicAs[*hakmem.MisuseError](do)
			if m == nil || m.Op != op || m.Kind != kind || m.Addr != uintptr(unsafe.Pointer(o)) || !strings.Contains(m.Error(), "an Owner") {
				t.Errorf("%s of a %s: %+v %s", op, kind, m, instead)
			}
		}
	}
	unused := new(offheap.Owner)
	unused.Close()
	mustPanicNaming(t, "a second Close", unused.Close, "closed owner")
}

// TestOwnerAfterMisuse: blocks that were freed without the Owner's knowledge do not keep Close from freeing the others.
func TestOwnerAfterMisuse(t *testing.T) {
	hakmemtest.NoLeaks(t)
	var o offheap.Owner
	var blocks []unsafe.Pointer
	for range 100 {
		blocks = append(blocks, o.Malloc(200_000))
	}
	bytes := o.Bytes()
	hakmem.Free(blocks[17])
	hakmem.Free(blocks[42])
	if n := o.Bytes(); n != bytes/100*98 {
		t.Errorf("%d bytes of %d, two blocks of which were freed", n, bytes)
	}
	m, instead := testkit.PanicAs[*hakmem.MisuseError](o.Close)
	if m == nil || m.Kind != "double free" || m.Addr != uintptr(blocks[17]) && m.Addr != uintptr(blocks[42]) {
		t.Errorf("Close: %v %s", m, instead)
	}
	mustPanicNaming(t, "a second Close", o.Close, "closed owner")
}

// TestOwnerSite: blocks are those of the site, however they are allocated.
func TestOwnerSite(t *testing.T) {
	hakmemtest.NoLeaks(t)
	site := hakmem.RegisterSite("owner site test")
	o := offheap.NewOwner(offheap.OwnerOptions{Site: site})
	defer o.Close()
	for _, size := range []uintptr{10, 5000, 100_000, 3 << 20} {
		o.Malloc(size)
		o.Calloc(size, 1)
		o.AlignedAlloc(64, size)
		o.Realloc(o.Malloc(size), 3*size)
	}
	n := 0
	for b := range hakmem.LiveBlocks() {
		if b.Site == site && o.Owns(b.Pointer()) {
			n++
		}
	}
	if n != o.Len() || n != 16 {
		t.Errorf("%d blocks of the site, of %d", n, o.Len())
	}
}

// TestOwnerNoGoAllocations: in the steady state a call allocates nothing in Go's heap.
func TestOwnerNoGoAllocations(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: the detectors allocate")
	}
	var o offheap.Owner
	defer o.Close()
	blocks := make([]unsafe.Pointer, 1000)
	i := 0
	turn := func() {
		p := &blocks[i%len(blocks)]
		o.Free(*p)
		*p = o.Realloc(o.Malloc(100), 120)
		i++
	}
	for range 5000 {
		turn()
	}
	if n := testing.AllocsPerRun(2000, turn); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

//go:noinline
func dropOwners(n int, options ...offheap.OwnerOptions) {
	for range n {
		o := offheap.NewOwner(options...)
		for i := range uintptr(100) {
			o.Malloc(i * i)
		}
		offheap.NewOwner().Len() // has no block, so it is not counted
		freed := offheap.NewOwner()
		freed.Free(freed.Malloc(10))
	}
}

var _ = testkit.Child("owners dropped", func(arg string) error {
	offheap.RecordStacks(true)
	closed := offheap.NewOwner()
	closed.Malloc(1)
	closed.Close()
	left, became := 0, "were freed"
	var options []offheap.OwnerOptions
	if arg == "kept" {
		options = append(options, offheap.OwnerOptions{KeepDropped: true})
		left, became = 500, "stay allocated"
	}
	dropOwners(5, options...)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		if a := offheap.ReadAbandoned(); a.Owners == 5 && liveBlocks() == left {
			break
		} else if time.Now().After(end) {
			return fmt.Errorf("%+v, %d live blocks", a, liveBlocks())
		}
	}
	return reports("an Owner, made by ", "dropOwners (", "Close each Owner", "owner_test.go:", became)
})

// TestOwnerDropped: an Owner that is dropped is counted and reported, and its blocks are freed unless they are to stay.
func TestOwnerDropped(t *testing.T) {
	for _, setting := range []string{"HAKMEM_HARDEN=0", "HAKMEM_HARDEN=1", "HAKMEM_GUARD=1"} {
		testkit.InChild(t, "owners dropped", "freed", setting)
	}
	testkit.InChild(t, "owners dropped", "kept")
}
