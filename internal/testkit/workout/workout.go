// Package workout exercises hakmem in tests: it allocates blocks of every kind, checks their
// contents, frees them, and checks that nothing was lost. Where something is wrong its functions
// return an error or panic, so that cases in processes of their own can use them.
package workout

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Kind is a kind of block, by a size.
type Kind struct {
	Name string
	Size uintptr
}

// Kinds has one size for every kind of block that the engine distinguishes.
var Kinds = []Kind{
	{"least tiny", 1},
	{"tiny 48", 48}, // 64 KiB is not a multiple of 48, so these slabs have a tail
	{"tiny 128", 128},
	{"tiny 720", 720},
	{"largest tiny", 1024},
	{"mid of 1 page", 1025},
	{"mid of 2 pages", 3000},
	{"mid of 4 pages", 7000},
	{"mid of 8 pages", 14000},
	{"largest mid", 32 << 10},
	{"large block of 1 page", 40000},
	{"large block of several pages", 200_000},
	{"large block of a superslab", 2 << 20},
	{"huge block", 3 << 20},
}

// SmallRegion is the smallest region.
const SmallRegion = "HAKMEM_REGION_BYTES=268435456"

// Work allocates blocks of every kind until it holds the given number of bytes or want allocations
// failed. Then it checks the blocks and frees them. It returns how many allocations failed.
func Work(seed, bytes uint64, want int) (failures int, err error) {
	r := rand.New(rand.NewPCG(seed, 1))
	site := hakmem.RegisterSite("workout")
	h := hakmem.NewHeap()
	defer h.Close()
	var blocks []Block
	for held, i := uint64(0), uint64(0); held < bytes && failures < want; i++ {
		b := Block{Size: Kinds[r.IntN(len(Kinds))].Size, Key: i}
		switch i % 8 {
		case 0:
			b.P = h.Malloc(b.Size)
		case 1:
			b.P = hakmem.MallocAt(site, b.Size)
		case 2:
			if b.P = hakmem.Calloc(1, b.Size); b.P != nil && !testkit.IsZero(b.P, b.Size) {
				return failures, fmt.Errorf("Calloc(%d) is not zero", b.Size)
			}
		case 3:
			b.P = hakmem.AlignedAlloc(1<<r.UintN(18), b.Size)
		case 4:
			if err := Tolerate(func() error { b.P = unsafe.Pointer(unsafe.SliceData(hakmem.Alloc(int(b.Size)))); return nil }); err != nil {
				return failures, fmt.Errorf("Alloc(%d): %w", b.Size, err)
			}
		case 5: // grow an existing block; a failure leaves it as it is
			if len(blocks) > 0 {
				old := &blocks[r.IntN(len(blocks))]
				p := hakmem.Realloc(old.P, b.Size)
				if p == nil && !testkit.Intact(old.P, old.Size, old.Key) {
					return failures, fmt.Errorf("a Realloc that failed damaged %v", *old)
				}
				if p == nil {
					failures++
					continue
				}
				held += uint64(b.Size) - uint64(old.Size)
				old.P, old.Size = p, b.Size
				testkit.Fill(p, b.Size, old.Key)
				continue
			}
			fallthrough
		default:
			b.P = hakmem.Malloc(b.Size)
		}
		if b.P == nil {
			failures++
			if r.UintN(4) == 0 && len(blocks) > 0 { // as a program that needs memory would do
				i := r.IntN(len(blocks))
				hakmem.Free(blocks[i].P)
				held -= uint64(blocks[i].Size)
				blocks[i] = blocks[len(blocks)-1]
				blocks = blocks[:len(blocks)-1]
			}
			continue
		}
		testkit.Fill(b.P, b.Size, b.Key)
		held += uint64(b.Size)
		blocks = append(blocks, b)
	}
	if a, b, bad := Overlapping(blocks); bad {
		return failures, fmt.Errorf("%v overlaps %v", a, b)
	}
	for _, b := range blocks {
		if !testkit.Intact(b.P, b.Size, b.Key) {
			return failures, fmt.Errorf("%v is damaged", b)
		}
		hakmem.Free(b.P)
	}
	return failures, nil
}

// Churn is Work by several goroutines, with Trim and ReadStats in between, while the scavenger runs
// as fast as it can.
func Churn(seed uint64) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 5 {
			hakmem.Trim()
			ReadStats()
		}
	})
	err := Together(3, func(g uint64) error { _, err := Work(seed*10+g, 32<<20, 5000); return err })
	wg.Wait()
	return err
}

// Tolerate calls do, which may run out of memory: it is no error if do panics with an
// *OutOfMemoryError. Any other panic is one.
func Tolerate(do func() error) (err error) {
	v := testkit.PanicOf(func() { err = do() })
	if _, ok := v.(*hakmem.OutOfMemoryError); v != nil && !ok {
		return fmt.Errorf("panic: %v", v)
	}
	return err
}

// Together calls do(0), do(1), … do(n-1), each in a goroutine of its own that may run out of memory
// (Tolerate), and returns their errors.
func Together(n int, do func(g uint64) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() { errs[g] = Tolerate(func() error { return do(uint64(g)) }) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
