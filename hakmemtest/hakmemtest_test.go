package hakmemtest_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
)

// tester is a testing.TB that stands for a test which the real test ends itself.
type tester struct {
	testing.TB
	cleanups []func()
	failures []string
}

func (t *tester) Helper()          {}
func (t *tester) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }
func (t *tester) Errorf(format string, args ...any) {
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}

// end ends the test and returns the text of its failure, or "" if it did not fail.
func (t *tester) end() string {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
	return strings.Join(t.failures, "\n")
}

func begin(opts ...hakmemtest.Option) *tester {
	t := &tester{}
	hakmemtest.NoLeaks(t, opts...)
	return t
}

//go:noinline
func leakOne(malloc func(uintptr) unsafe.Pointer, size uintptr) unsafe.Pointer { return malloc(size) }

// classSizes skips a test that expects a block's bytes to be those of its size class, in programs
// built with -asan.
func classSizes(t *testing.T) {
	t.Helper()
	if asan.On {
		t.Skip("skipped: -asan; there each block is larger than its bytes, by 16 or more")
	}
}

// mustReport checks that the report has all of the texts.
func mustReport(t *testing.T, report string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !strings.Contains(report, s) {
			t.Errorf("no %q in the report:\n%s", s, report)
		}
	}
}

func TestNoLeaks(t *testing.T) {
	old := hakmem.Malloc(48) // alive before, so not a leak; its address may be used again
	older := hakmem.NewHeap()
	defer older.Close()
	oldBlock := older.Malloc(48)

	test := begin()
	h := hakmem.NewHeap()
	for _, size := range []uintptr{1, 48, 3000, 100_000, 3 << 20} {
		hakmem.Free(hakmem.Malloc(size))
		h.Free(hakmem.Malloc(size))
		hakmem.Free(h.Malloc(size))
		hakmem.Free(hakmem.Realloc(hakmem.Malloc(size), 3*size))
		hakmem.FreeBytes(hakmem.AllocZeroed(int(size)))
	}
	hakmem.Delete(hakmem.New[[100]int]())
	a := hakmem.NewArena()
	a.Alloc(1000, 8)
	a.Close()
	h.Close()
	hakmem.Free(old)
	older.Free(oldBlock)
	done := make(chan unsafe.Pointer)
	go func() { done <- hakmem.Malloc(100) }()
	hakmem.Free(<-done)
	if report := test.end(); report != "" {
		t.Errorf("nothing leaked, but: %s", report)
	}
	if engine.Watched() {
		t.Error("calls are still watched")
	}
}

func TestLeaks(t *testing.T) {
	classSizes(t)
	site := hakmem.RegisterSite("TestLeaks")
	h, older := hakmem.NewHeap(), hakmem.NewHeap()
	defer h.Close()
	defer older.Close()
	for what, malloc := range map[string]func(uintptr) unsafe.Pointer{
		"Malloc":       hakmem.Malloc,
		"MallocAt":     func(n uintptr) unsafe.Pointer { return hakmem.MallocAt(site, n) },
		"Calloc":       func(n uintptr) unsafe.Pointer { return hakmem.Calloc(1, n) },
		"AlignedAlloc": func(n uintptr) unsafe.Pointer { return hakmem.AlignedAlloc(64, n) },
		"Alloc":        func(n uintptr) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(hakmem.Alloc(int(n)))) },
		"MakeSlice": func(n uintptr) unsafe.Pointer {
			return unsafe.Pointer(unsafe.SliceData(hakmem.MakeSlice[byte](int(n), int(n))))
		},
		"Heap.Malloc": h.Malloc,
		"AlignedRealloc": func(n uintptr) unsafe.Pointer {
			return hakmem.AlignedRealloc(hakmem.Malloc(n/4), n, 64)
		},
		"Realloc": func(n uintptr) unsafe.Pointer { return hakmem.Realloc(hakmem.Malloc(n/4), n) },
		"in a goroutine": func(n uintptr) unsafe.Pointer {
			c := make(chan unsafe.Pointer)
			go func() { c <- leakOne(hakmem.Malloc, n) }()
			return <-c
		},
	} {
		for _, size := range []uintptr{10, 2000, 50_000, 3 << 20} {
			test := begin()
			p := leakOne(malloc, size)
			for b := range hakmem.LiveBlocks() {
				if b.Addr == uintptr(p) && b.Stack == nil {
					t.Errorf("%s: LiveBlocks has no stack of %+v", what, b)
				}
			}
			report := test.end()
			mustReport(t, report, fmt.Sprintf("block %p of %d bytes", p, hakmem.UsableSize(p)), "hakmemtest_test.leakOne", "hakmemtest_test.go:")
			if strings.Contains(report, "hakmem/hakmem.") || strings.Contains(report, "internal/engine") {
				t.Errorf("%s: hakmem's own frames are in the report:\n%s", what, report)
			}
			if what == "MallocAt" {
				mustReport(t, report, `site "TestLeaks"`)
			}
			hakmem.Free(p)
		}
	}

	// A Heap may have older blocks in its magazine. A leak of one of them is found, but without a
	// stack.
	older.Free(older.Malloc(200))
	slow := engine.AlwaysSlow() // for example with the race detector; then the allocation is recorded
	test := begin()
	p := older.Malloc(200)
	report := test.end()
	mustReport(t, report, fmt.Sprintf("block %p of %d bytes", p, hakmem.UsableSize(p)))
	if strings.Contains(report, "no stack") == slow {
		t.Errorf("a block from the magazine of an older Heap: %s", report)
	}
	hakmem.Free(p)

	test = begin()
	a := hakmem.NewArena()
	a.Alloc(1000, 8)
	mustReport(t, test.end(), "chunk of an Arena", "hakmemtest_test.TestLeaks")
	a.Close()
	if report := begin().end(); report != "" {
		t.Errorf("a test that did nothing: %s", report)
	}
}

// TestManyLeaks checks that 20 blocks are printed, grouped by stack.
func TestManyLeaks(t *testing.T) {
	classSizes(t)
	test := begin()
	var blocks []unsafe.Pointer
	for range 15 {
		blocks = append(blocks, hakmem.Malloc(1000))
	}
	for range 100 {
		blocks = append(blocks, hakmem.Malloc(64))
	}
	for range 7 {
		blocks = append(blocks, hakmem.Malloc(16))
	}
	report := test.end()
	mustReport(t, report, "122 blocks of 21872 bytes together", "15 blocks of 15360 bytes", "100 blocks of 6400 bytes", "and 95 more", "and 7 blocks of 112 bytes together from 1 other stacks")
	if n := len(regexp.MustCompile(`(?m)^    block 0x`).FindAllString(report, -1)); n != 20 {
		t.Errorf("%d blocks are printed:\n%s", n, report)
	}
	if n := strings.Count(report, "TestManyLeaks"); n != 2 {
		t.Errorf("%d stacks are printed:\n%s", n, report)
	}
	for _, p := range blocks {
		hakmem.Free(p)
	}
}

func TestIgnore(t *testing.T) {
	site := hakmem.RegisterSite("TestIgnore")
	test := begin(
		hakmemtest.Ignore(func(b hakmem.LiveBlock) bool { return b.Site == site }),
		hakmemtest.IgnoreFunction("github.com/hakmem/hakmem/hakmemtest_test.leakOne"))
	p, q, r := hakmem.MallocAt(site, 10), leakOne(hakmem.Malloc, 10), hakmem.Malloc(10)
	report := test.end()
	mustReport(t, report, "leak: 1 block", fmt.Sprintf("%p", r))
	for _, p := range []unsafe.Pointer{p, q, r} {
		hakmem.Free(p)
	}
}

// TestNested runs a test and subtests, each with its own NoLeaks, and a trace at the same time.
func TestNested(t *testing.T) {
	classSizes(t)
	var trace strings.Builder
	outer := begin()
	p := hakmem.Malloc(10)
	inner := begin()
	q := hakmem.Malloc(20)
	if err := hakmem.StartTrace(&trace); err != nil {
		t.Fatal(err)
	}
	if report := inner.end(); strings.Contains(report, fmt.Sprintf("%p", p)) || !strings.Contains(report, fmt.Sprintf("%p", q)) {
		t.Errorf("the inner test: %s", report)
	}
	hakmem.Free(q)
	r := hakmem.Malloc(30)
	report := outer.end()
	mustReport(t, report, "leak: 2 blocks of 48 bytes together", fmt.Sprintf("%p", p), fmt.Sprintf("%p", r))
	hakmem.Free(r)
	if err := hakmem.StopTrace(); err != nil {
		t.Fatal(err)
	}
	if got := trace.String(); strings.Count(got, "\nf ") != 2 || strings.Count(got, "\na ") != 1 {
		t.Errorf("the trace that was written meanwhile:\n%s", got)
	}
	hakmem.Free(p)
	if engine.Watched() {
		t.Error("calls are still watched")
	}
}

// TestRecordWhileOthersAllocate has many goroutines allocate while recordings begin and end.
func TestRecordWhileOthersAllocate(t *testing.T) {
	stop, done := make(chan struct{}), make(chan struct{})
	for range 4 {
		go func() {
			h := hakmem.NewHeap()
			defer func() { h.Close(); done <- struct{}{} }()
			for i := uintptr(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				p, q := h.Malloc(i%5000), hakmem.Malloc(i%70_000)
				h.Free(q)
				hakmem.Free(p)
			}
		}()
	}
	for i := range 30 {
		test := begin()
		p := leakOne(hakmem.Malloc, 123)
		if i%2 == 0 {
			hakmem.Free(p)
		}
		report := test.end()
		// The report contains the blocks of other goroutines, too. This goroutine's block must be
		// in it if and only if it is alive. (If it is not, a block of another goroutine may have
		// its address.)
		if i%2 == 1 {
			if !strings.Contains(report, "leak: ") {
				t.Errorf("the leak is not reported: %s", report)
			}
			hakmem.Free(p)
		} else if strings.Contains(report, "leakOne") {
			t.Errorf("a block that was freed is reported: %s", report)
		}
	}
	close(stop)
	for range 4 {
		<-done
	}
	if report := begin().end(); report != "" || engine.Watched() {
		t.Errorf("afterwards: %s", report)
	}
}
