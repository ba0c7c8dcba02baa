package engine

import (
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// aloneVar is set in a process that runs one test.
const aloneVar = "HAKMEM_TEST_ALONE"

// alone runs the calling test in a process of its own, because the sizes that it adds stay, with the given
// settings. It reports whether this is that process.
func alone(t *testing.T, settings ...string) bool {
	t.Helper()
	if os.Getenv(aloneVar) != "" {
		return true
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if f := flag.Lookup("test.gocoverdir"); f != nil && f.Value.String() != "" { // its coverage counts, too
		args = append(args, "-test.gocoverdir="+f.Value.String())
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), settings...), aloneVar+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("skipped:\n%s", out)
	}
	return false
}

// added returns a copy of the sizes that were added.
func added() []learn.BlockSize {
	region.mu.Lock()
	defer region.mu.Unlock()
	return append([]learn.BlockSize(nil), addedSizes...)
}

// usable returns the usable bytes of a live block.
func usable(t *testing.T, p Block) mem.Bytes {
	t.Helper()
	n, _, bad := Size(p)
	if bad.Kind != OK {
		t.Fatalf("Size(%#x): %+v", p, bad)
	}
	return n
}

// TestAddSize: before there is a region sizes are noted, and the first allocation defines them; later they
// are defined at once. No more are added than there are classes, and each only once.
func TestAddSize(t *testing.T) {
	if !alone(t, "HAKMEM_DYN=auto") {
		return
	}
	add := func(size int) error {
		region.mu.Lock()
		defer region.mu.Unlock()
		return addSize(learn.BlockSize{Size: size, Weight: 1})
	}
	for size, want := range map[int]string{4100: "multiple of 128", 4608: "in any case", 1024: "between", -4224: "between"} {
		if err := add(size); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want it to say %q", size, err, want)
		}
	}
	if err := errors.Join(add(4224), add(4224)); err != nil || sizeclass.Spare() != 2 {
		t.Fatalf("%v; %d classes are spare before the first allocation", err, sizeclass.Spare())
	}
	if !Ready() || sizeclass.Of(4112).Bytes() != 4224 || sizeclass.Spare() != 1 {
		t.Fatalf("blocks for 4112 bytes have %d", sizeclass.Of(4112).Bytes())
	}
	if err := errors.Join(add(16512), add(4224), add(16512)); err != nil || sizeclass.Of(16400).Bytes() != 16512 {
		t.Fatalf("%v; blocks for 16400 bytes have %d", err, sizeclass.Of(16400).Bytes())
	}
	if err := add(8320); !errors.Is(err, errNoSpare) || sizeclass.Of(8208).Bytes() != 9216 {
		t.Errorf("a third size: %v", err)
	}
	if list := added(); len(list) != 2 || list[0].Size != 4224 || list[1].Size != 16512 {
		t.Errorf("added are %+v", list)
	}
	mustHold(t)
}

// TestDynSetting: HAKMEM_DYN names the sizes, and with it no policy file adds one.
func TestDynSetting(t *testing.T) {
	if !alone(t, "HAKMEM_DYN=16512,4224") {
		return
	}
	s := Learnt()
	s.Sizes = []learn.BlockSize{{Size: 8320, Weight: 5}}
	for range 2 { // before the first allocation and after it
		if err := Learn(s); err != nil {
			t.Fatal(err)
		}
		if !Ready() {
			t.Fatal(Survived())
		}
	}
	if list := Learnt().Sizes; len(list) != 2 || list[0] != (learn.BlockSize{Size: 16512}) || list[1] != (learn.BlockSize{Size: 4224}) {
		t.Errorf("a policy file would have %+v", list)
	}
	if sizeclass.Of(4112).Bytes() != 4224 || sizeclass.Of(16400).Bytes() != 16512 || sizeclass.Of(8208).Bytes() != 9216 {
		t.Error("other sizes are defined than named")
	}
	for _, size := range []int{4100, 4608} {
		s.Sizes[0].Size = size
		if err := Learn(s); err == nil {
			t.Errorf("a file with the size %d is read", size)
		}
	}
	mustHold(t)
}

// TestDynOff: with HAKMEM_DYN=off nothing is added, whatever a file says.
func TestDynOff(t *testing.T) {
	if !alone(t, "HAKMEM_DYN=off") {
		return
	}
	s := Learnt()
	s.Sizes = []learn.BlockSize{{Size: 8320, Weight: 5}}
	for range 2 {
		if err := Learn(s); err != nil || !Ready() {
			t.Fatal(err, Survived())
		}
	}
	if policy.AtStart().Dyn != policy.DynOff || sizeclass.Spare() != sizeclass.NumSpare || len(Learnt().Sizes) != 0 {
		t.Errorf("%d classes are spare", sizeclass.Spare())
	}
}

// TestSizesInFiles: what a process has added another one begins with, and exports again; a file adds to
// what there is, as far as there is room.
func TestSizesInFiles(t *testing.T) {
	if !alone(t, "HAKMEM_DYN=auto") {
		return
	}
	s := Learnt()
	s.Sizes = []learn.BlockSize{{Size: 4224, Weight: 500}}
	if err := Learn(s); err != nil || sizeclass.Spare() != 2 {
		t.Fatalf("%v; %d classes are spare before the first allocation", err, sizeclass.Spare())
	}
	if !Ready() {
		t.Fatal(Survived())
	}
	p := Malloc(0, 4112)
	if n := usable(t, p); n != 4224 {
		t.Errorf("a block for 4112 bytes has %d", n)
	}
	freeBlocks(t, []Block{p})
	var file strings.Builder
	if err := Learnt().Write(&file, nil); err != nil {
		t.Fatal(err)
	}
	again, err := learn.ReadSnapshot(strings.NewReader(file.String()))
	if err != nil || len(again.Sizes) != 1 || again.Sizes[0] != s.Sizes[0] {
		t.Fatalf("%+v, %v", again.Sizes, err)
	}
	s.Sizes = []learn.BlockSize{{Size: 8320, Weight: 3}, {Size: 16512, Weight: 2}}
	if err := Learn(s); err != nil || sizeclass.Of(8208).Bytes() != 8320 || sizeclass.Of(16400).Bytes() != 18432 {
		t.Errorf("%v; added are %+v", err, added())
	}
	if len(Survived()) > 0 {
		t.Error(Survived())
	}
	mustHold(t)
}

// TestNoteSize: a miss counts in the bin of its size, if the size decided about the class.
func TestNoteSize(t *testing.T) {
	if !learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	for _, test := range []struct {
		allocate func(f Front) Block
		bin      int // -1: none
	}{
		{func(f Front) Block { return Malloc(f, 4112) }, 32},
		{func(f Front) Block { return Malloc(f, 4224) }, 32},
		{func(f Front) Block { return Malloc(f, 4225) }, 33},
		{func(f Front) Block { return Malloc(f, 32<<10) }, 255},
		{func(f Front) Block { return Malloc(f, 1025) }, 8},
		{func(f Front) Block { return Malloc(f, 1024) }, -1},
		{func(f Front) Block { return Malloc(f, 32<<10+1) }, -1},
		{func(f Front) Block { return mallocAligned(f, 4096, 4112, 0) }, -1},
		{func(f Front) Block { return mallocAligned(f, 512, 4112, 0) }, 32},
	} {
		var before [len(askedSizes)]uint32
		for i := range before {
			before[i] = askedSizes[i].Load()
		}
		f := heapFront(t) // whose magazines are empty
		if p := test.allocate(f); p == 0 || Free(f, p).Kind != OK {
			t.Fatal(Survived())
		}
		for i := range before {
			if n := askedSizes[i].Load() - before[i]; (n != 0) != (i == test.bin) || n > 1 {
				t.Errorf("want bin %d: %d in bin %d", test.bin, n, i)
			}
		}
	}
}

// TestAddWhileInUse: sizes are added while goroutines allocate and free blocks of the classes that they
// divide, through Ps and Heaps, aligned and with sites. Every block keeps its contents, its size and what
// its free does, and blocks from before go back where they came from.
func TestAddWhileInUse(t *testing.T) {
	if !alone(t, "HAKMEM_DYN=auto") {
		return
	}
	if !Ready() {
		t.Fatal(Survived())
	}
	const goroutines, turns, kept = 4, 30_000, 300
	sites := [...]site.ID{0, RegisterSite("TestAddWhileInUse")}
	var done atomic.Int64
	var got [sizeclass.Num + 1]atomic.Int64 // blocks by class
	var all sync.WaitGroup
	for g := range goroutines {
		own := Front(0)
		if g%2 == 1 {
			own = heapFront(t)
		}
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			var blocks [kept]struct {
				p    Block
				size mem.Bytes // asked for, and written
				got  mem.Bytes
			}
			drop := func(i int) bool {
				b := &blocks[i]
				if b.p == 0 {
					return true
				}
				n, _, bad := Size(b.p)
				whole := testkit.Intact(Pointer(b.p), uintptr(b.size), uint64(b.p))
				if bad.Kind != OK || n != b.got || !whole {
					t.Errorf("a block of %d bytes: %+v, %d bytes, were %d, intact %t", b.size, bad, n, b.got, whole)
					return false
				}
				if bad := Free(own, b.p); bad.Kind != OK {
					t.Errorf("Free: %+v", bad)
					return false
				}
				b.p = 0
				return true
			}
			for range turns {
				i := r.IntN(kept)
				if !drop(i) {
					return
				}
				b := &blocks[i]
				b.size = []mem.Bytes{4097, 16385, 1025}[r.IntN(3)] + mem.Bytes(r.IntN(700))
				align := mem.Align(1) << r.IntN(10)
				b.p = mallocAligned(own, align, b.size, sites[r.IntN(40)/39])
				var bad Finding
				if b.got, _, bad = Size(b.p); bad.Kind != OK || b.got < b.size || mem.Align(b.p)%align != 0 {
					t.Errorf("%d bytes, aligned to %d: %d at %#x, %+v", b.size, align, b.got, b.p, bad)
					return
				}
				got[sizeclass.Of(b.got)].Add(1)
				testkit.Fill(Pointer(b.p), uintptr(b.size), uint64(b.p))
				done.Add(1)
			}
			for i := range blocks {
				drop(i)
			}
		})
	}
	for i, size := range []int{4224, 16512} {
		for done.Load() < int64(i+1)*goroutines*turns/4 && !t.Failed() {
			runtime.Gosched()
		}
		region.mu.Lock()
		err := addSize(learn.BlockSize{Size: size, Weight: 1})
		region.mu.Unlock()
		if err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	for _, size := range []mem.Bytes{4224, 4608, 16512, 18432} {
		if n := got[sizeclass.Of(size)].Load(); n < turns/100 {
			t.Errorf("%d blocks had %d bytes", n, size)
		}
	}
	mustHold(t)
}
