package hakmem_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/profile"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Tests of HAKMEM_PROFILE_RATE: what the profile counts, against the ledger of the test.

// inLedger is what the ledger have for blocks of one size from one line: the same key as a bucket's, with the stack cut
// down to the caller.
type inLedger struct {
	where string
	size  uintptr // 0 where the program cannot see how many bytes a block takes (hardened)
	site  string
}

// ledger is what a test has allocated and freed.
type ledger map[inLedger]profile.Counts

func (b ledger) alloc(k inLedger) {
	c := b[k]
	c.Allocs++
	b[k] = c
}

func (b ledger) free(k inLedger) {
	c := b[k]
	c.Frees++
	b[k] = c
}

// profiledLedger returns the ledger that the profile makes.
func profiledLedger(samples []profile.Sample) ledger {
	b := ledger{}
	for _, s := range samples {
		k := inLedger{where: "nowhere", size: uintptr(s.Size)}
		if len(s.Stack) > 0 {
			f, _ := runtime.CallersFrames(s.Stack).Next()
			k.where = f.Function + ":" + strconv.Itoa(f.Line)
		}
		if s.Site != 0 {
			k.site, _, _ = site.Read(s.Site)
		}
		if engine.Hardened() {
			k.size = 0
		}
		c := b[k]
		c.Allocs += s.Allocs
		c.Frees += s.Frees
		b[k] = c
	}
	return b
}

// differ returns an error that says where two ledger differ, or nil.
func (b ledger) differ(want ledger) error {
	var errs []error
	for k, c := range b {
		if c != want[k] {
			errs = append(errs, fmt.Errorf("%+v: the profile has %+v, the ledger %+v", k, c, want[k]))
		}
	}
	for k, c := range want {
		if _, ok := b[k]; !ok {
			errs = append(errs, fmt.Errorf("%+v: the profile has nothing, the ledger %+v", k, c))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs[:min(len(errs), 10)]...)
}

// profiledBlock is a block that the test holds, and under which key the ledger have it.
type profiledBlock struct {
	p    unsafe.Pointer
	in   inLedger
	free func() // nil: any function for blocks may free it
}

// profiledWay is a way to allocate size bytes.
type profiledWay func(h *hakmem.Heap, size uintptr) (p unsafe.Pointer, where string)

const profiledSite = "profile test"

// profiledWays are all ways to allocate a block.
var profiledWays = []profiledWay{
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return hakmem.Malloc(n), here() },
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return hakmem.Calloc(n, 1), here() },
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return hakmem.Realloc(nil, n), here() },
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return hakmem.AlignedAlloc(8, n), here() },
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return hakmem.AlignedAlloc(256, n), here() },
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return hakmem.AlignedAlloc(1<<17, n), here() },
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) {
		return hakmem.MallocAt(hakmem.RegisterSite(profiledSite), n), here()
	},
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return hakmem.MallocAt(0, n), here() },
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) {
		return unsafe.Pointer(unsafe.SliceData(hakmem.Alloc(int(n)))), here()
	},
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) {
		return unsafe.Pointer(unsafe.SliceData(hakmem.AllocZeroed(int(n)))), here()
	},
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) {
		return unsafe.Pointer(unsafe.SliceData(hakmem.MakeSlice[uint32](1, int(n/4)+1))), here()
	},
	func(_ *hakmem.Heap, n uintptr) (unsafe.Pointer, string) {
		return unsafe.Pointer(hakmem.New[[77]byte]()), here()
	},
	func(h *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return h.Malloc(n), here() },
	func(h *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return h.Calloc(1, n), here() },
	func(h *hakmem.Heap, n uintptr) (unsafe.Pointer, string) { return h.Realloc(nil, n), here() },
}

// profiledSize draws a size: every kind of block, small ones more often.
func profiledSize(r *rand.Rand) uintptr {
	return uintptr(math.Exp(r.Float64() * math.Log([]float64{1 << 10, 1 << 10, 32 << 10, 2 << 20, 6 << 20}[r.IntN(5)])))
}

var _ = testkit.Child("profile every block", profileEveryBlock)

// profileEveryBlock allocates and frees at random with every block a sample: the profile is exactly the ledger.
func profileEveryBlock(string) error {
	r := rand.New(rand.NewPCG(1, 2))
	h := hakmem.NewHeap()
	defer h.Close()
	b := ledger{}
	var live []profiledBlock
	key := func(p unsafe.Pointer, where string, in string) inLedger {
		if engine.Hardened() {
			return inLedger{where, 0, in}
		}
		return inLedger{where, hakmem.UsableSize(p), in}
	}
	for range 6000 {
		i := 0
		if len(live) > 0 {
			i = r.IntN(len(live))
		}
		switch op := r.IntN(10); {
		case op < 5:
			way := r.IntN(len(profiledWays))
			p, where := profiledWays[way](h, profiledSize(r))
			in := ""
			if way == 6 {
				in = profiledSite
			}
			k := key(p, where, in)
			b.alloc(k)
			live = append(live, profiledBlock{p, k, nil})
		case op == 5 && r.IntN(4) == 0:
			a := hakmem.NewArena()
			// Two allocations that fit into the first chunk together.
			a.Alloc(40<<10, 1)
			where := here()
			where = where[:strings.LastIndexByte(where, ':')+1] + strconv.Itoa(line()-2)
			k := inLedger{where, 64 << 10, ""}
			if engine.Hardened() {
				k.size = 0
			}
			a.Alloc(4<<10, 8)
			b.alloc(k)
			live = append(live, profiledBlock{nil, k, a.Close})
		case len(live) == 0:
		case op < 7 && live[i].free == nil: // Realloc: bigger or smaller by a little, or any size
			x := &live[i]
			was := hakmem.UsableSize(x.p)
			n := profiledSize(r)
			if r.IntN(2) == 0 {
				n = max(uintptr(float64(was)*(0.3+r.Float64())), 1)
			}
			var q unsafe.Pointer
			var where string
			switch r.IntN(3) {
			case 0:
				q, where = h.Realloc(x.p, n), here()
			case 1:
				q, where = hakmem.AlignedRealloc(x.p, n, 64), here()
			default:
				q, where = hakmem.Realloc(x.p, n), here()
			}
			if q != x.p || hakmem.UsableSize(q) != was && !engine.Hardened() {
				b.free(x.in)
				x.p, x.in = q, key(q, where, x.in.site)
				b.alloc(x.in)
			}
		default:
			switch x := live[i]; {
			case x.free != nil:
				x.free()
			case r.IntN(2) == 0:
				h.Free(x.p)
			default:
				hakmem.Free(x.p)
			}
			b.free(live[i].in)
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		}
	}
	if err := profiledLedger(engine.ReadProfile(false)).differ(b); err != nil {
		return err
	}
	for _, x := range live {
		if x.free != nil {
			x.free()
		} else {
			hakmem.Free(x.p)
		}
		b.free(x.in)
	}
	if err := profiledLedger(engine.ReadProfile(false)).differ(b); err != nil {
		return fmt.Errorf("all freed: %w", err)
	}
	for _, s := range engine.ReadProfile(true) {
		if s.Live() < 0 || s.Allocs > b.allocs() {
			return fmt.Errorf("at the peak: %+v", s)
		}
	}
	return nil
}

// allocs returns how many blocks the ledger have.
func (b ledger) allocs() (n int64) {
	for _, c := range b {
		n += c.Allocs
	}
	return n
}

// line returns the line that calls it.
func line() int {
	_, _, n, _ := runtime.Caller(1)
	return n
}

// TestProfileOfEveryBlock: at rate 1 the profile is exact, whatever way a block takes.
func TestProfileOfEveryBlock(t *testing.T) {
	needProfile(t)
	for _, settings := range [][]string{
		nil, {"HAKMEM_FAST_SECTION=0"}, {"HAKMEM_HARDEN=1"}, {"HAKMEM_GUARD=1"}, {"HAKMEM_GUARD=1/3"},
		{"HAKMEM_SITES=pc/1"}, {"HAKMEM_SITES=pc/7", "HAKMEM_GUARD=1/9"}, {"HAKMEM_W_MAX=2"}, {"HAKMEM_TOUCH=auto"}, {"HAKMEM_MODE=minimal"},
	} {
		t.Run(strings.Join(settings, " "), func(t *testing.T) {
			if asan.On && strings.Contains(strings.Join(settings, " "), "GUARD") {
				// A guarded block that grows where it is changes its size, a hardened one does not.
				t.Skip("skipped: -asan: the books cannot tell guarded blocks from hardened ones")
			}
			testkit.InChild(t, "profile every block", "", append(settings, "HAKMEM_PROFILE_RATE=1")...)
		})
	}
}

// needProfile skips the test where blocks have no live state, so that there is no profile.
func needProfile(t *testing.T) {
	t.Helper()
	if !engine.CheckLive {
		t.Skip("skipped: this build does not keep live state (hakmem_nolive), so it has no profile")
	}
}

var _ = testkit.Child("profile of goroutines", profileOfGoroutines)

// profileOfGoroutines lets goroutines free each other's blocks, through Heaps too, while they are counted.
func profileOfGoroutines(string) error {
	const goroutines, blocks = 4, 4000
	blocksOf := make(chan unsafe.Pointer, 64)
	var where [goroutines]string
	var wg, frees sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(g)))
			h := hakmem.NewHeap()
			defer h.Close()
			for range blocks {
				p, at := profiledWays[12*(g%2)](h, 1+uintptr(r.IntN(3000)))
				where[g] = at
				blocksOf <- p
			}
		})
		frees.Go(func() {
			h := hakmem.NewHeap()
			defer h.Close()
			for p := range blocksOf {
				if g%2 == 0 {
					h.Free(p)
				} else {
					hakmem.Free(p)
				}
			}
		})
	}
	wg.Wait()
	close(blocksOf)
	frees.Wait()
	var all profile.Counts
	for _, s := range engine.ReadProfile(false) {
		all.Allocs += s.Allocs
		all.Frees += s.Frees
	}
	if want := (profile.Counts{Allocs: goroutines * blocks, Frees: goroutines * blocks}); all != want {
		return fmt.Errorf("%+v, want %+v", all, want)
	}
	return nil
}

func TestProfileOfGoroutines(t *testing.T) {
	needProfile(t)
	testkit.InChild(t, "profile of goroutines", "", "HAKMEM_PROFILE_RATE=1")
	testkit.InChild(t, "profile of goroutines", "", "HAKMEM_PROFILE_RATE=1", "HAKMEM_HARDEN=1")
}
