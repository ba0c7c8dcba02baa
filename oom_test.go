package hakmem_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Memory that runs out, system calls that are refused, and gates. Each case
// runs in a process of its own: the region is reserved once, gates are read
// once, and what was survived stays in Err.

// childVar names, in a child's environment, the case that it is to run:
// "name" or "name:argument".
const childVar = "TEST_CHILD_OF_HAKMEM"

// children are the cases. A case that returns an error, or does not return, has
// failed.
var children = map[string]func(arg string) error{
	"aligned in full region":     alignedInFullRegion,
	"memory limit":               memoryLimit,
	"hardened":                   hardened,
	"guarded always":             guardedAlways,
	"guarded rate":               guardedRate,
	"guarded rate of kinds":      guardedRateOfKinds,
	"hardened work":              hardenedWork,
	"limit storm":                limitStorm,
	"commit refused once":        commitRefusedOnce,
	"commit refused from":        commitRefusedFrom,
	"commit refused at random":   commitRefusedAtRandom,
	"decommit refused":           decommitRefused,
	"any call refused once":      anyCallRefusedOnce,
	"any call refused at random": anyCallRefusedAtRandom,
	"reserve refused once":       reserveRefusedOnce,
	"reservation refused":        reservationRefused,
	"storm":                      storm,
	"realloc in full region":     reallocInFullRegion,
	"gate":                       gateInForce,
	"malformed gates":            malformedGates,
	"configure":                  configure,
	"before first use":           beforeFirstUse,
	"wild addresses":             wildAddresses,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childVar); name != "" {
		name, arg, _ := strings.Cut(name, ":")
		if err := children[name](arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inChild runs a case in a process of its own, with the given gates and no
// others. It reports false if the case printed notReached. The time limit is for a
// case that hangs.
func inChild(t *testing.T, name, arg string, gates ...string) (reached bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HAKMEM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, gates...), childVar+"="+name+":"+arg)
	if f := flag.Lookup("test.gocoverdir"); f != nil && f.Value.String() != "" { // what it covers counts too
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+f.Value.String())
	}
	if raceEnabled { // a process that ends sleeps a second by default
		cmd.Env = append(cmd.Env, strings.TrimSpace("GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		if len(out) > 4000 {
			out = append(out[:4000:4000], "\n..."...)
		}
		t.Errorf("%s %s %v: %v\n%s", name, arg, gates, err, out)
	}
	return !bytes.Contains(out, []byte(notReached))
}

// notReached is what a child prints that was to refuse a call which was not made: it
// has shown nothing.
const notReached = "there was no such call"

// smallSteps makes every superslab a commit of its own, so that there are many
// to refuse.
var smallSteps = []string{"HAKMEM_SS_COMMIT_MIN=2097152", "HAKMEM_SS_COMMIT_MAX=2097152"}

// work allocates blocks of every kind until it holds bytes bytes or want calls
// of it failed, checks them and frees them. It returns how many calls failed.
func work(seed, bytes uint64, want int) (failures int, err error) {
	r := rand.New(rand.NewPCG(seed, 1))
	site := hakmem.RegisterSite("oom_test")
	h := hakmem.NewHeap()
	defer h.Close()
	var blocks []block
	for held, i := uint64(0), uint64(0); held < bytes && failures < want; i++ {
		b := block{size: kindSizes[r.IntN(len(kindSizes))].size, key: i}
		switch i % 8 {
		case 0:
			b.p = h.Malloc(b.size)
		case 1:
			b.p = hakmem.MallocAt(site, b.size)
		case 2:
			if b.p = hakmem.Calloc(1, b.size); b.p != nil && !isZero(b.p, b.size) {
				return failures, fmt.Errorf("Calloc(%d) is not zero", b.size)
			}
		case 3:
			b.p = hakmem.AlignedAlloc(1<<r.UintN(18), b.size)
		case 4:
			if v := testkit.PanicOf(func() { b.p = unsafe.Pointer(unsafe.SliceData(hakmem.Alloc(int(b.size)))) }); v != nil {
				if _, ok := v.(*hakmem.OutOfMemoryError); !ok {
					return failures, fmt.Errorf("Alloc(%d) panicked with %v", b.size, v)
				}
			}
		case 5: // grow a block that is there; a failure leaves it
			if len(blocks) > 0 {
				old := &blocks[r.IntN(len(blocks))]
				p := hakmem.Realloc(old.p, b.size)
				if p == nil && !intact(old.p, old.size, old.key) {
					return failures, fmt.Errorf("a Realloc that failed damaged %v", *old)
				}
				if p == nil {
					failures++
					continue
				}
				held += uint64(b.size) - uint64(old.size)
				old.p, old.size = p, b.size
				fill(p, b.size, old.key)
				continue
			}
			fallthrough
		default:
			b.p = hakmem.Malloc(b.size)
		}
		if b.p == nil {
			failures++
			if r.UintN(4) == 0 && len(blocks) > 0 { // what a program in need would do
				i := r.IntN(len(blocks))
				hakmem.Free(blocks[i].p)
				held -= uint64(blocks[i].size)
				blocks[i] = blocks[len(blocks)-1]
				blocks = blocks[:len(blocks)-1]
			}
			continue
		}
		fill(b.p, b.size, b.key)
		held += uint64(b.size)
		blocks = append(blocks, b)
	}
	if a, b, bad := overlapping(blocks); bad {
		return failures, fmt.Errorf("%v overlaps %v", a, b)
	}
	for _, b := range blocks {
		if !intact(b.p, b.size, b.key) {
			return failures, fmt.Errorf("%v is damaged", b)
		}
		hakmem.Free(b.p)
	}
	return failures, nil
}

// nothingLost wants everything to be free again, before and after Trim, all
// invariants to hold, and all kinds of blocks to be had.
func nothingLost() error {
	for range 2 {
		if s := readStats(); s.Live != 0 || s.LiveBlocks != 0 || s.LateDoubleFrees != 0 {
			return fmt.Errorf("all freed: live %d bytes in %d blocks, %d late double frees", s.Live, s.LiveBlocks, s.LateDoubleFrees)
		}
		if err := hakmem.CheckInvariants(); err != nil {
			return err
		}
		hakmem.Trim()
	}
	if s := readStats(); s.InMagazines != 0 || s.Superslabs != 0 {
		return fmt.Errorf("all freed, trimmed: %d bytes in magazines, %d superslabs", s.InMagazines, s.Superslabs)
	}
	if n, err := work(99, 64<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("normal work afterwards: %d failures: %v: %v", n, err, hakmem.Err())
	}
	if s := readStats(); s.Live != 0 {
		return fmt.Errorf("normal work afterwards: live %d bytes", s.Live)
	}
	return hakmem.CheckInvariants()
}

// reported wants Err and Stats.Errors to tell of an injected failure.
func reported() error {
	if err := hakmem.Err(); !errors.Is(err, osmem.ErrInjected) {
		return fmt.Errorf("Err() = %v, want it to tell of the injected failure", err)
	}
	if s := readStats(); len(s.Errors) == 0 || s.SystemCalls.Failed == 0 {
		return fmt.Errorf("Stats: %d errors, %d failed calls", len(s.Errors), s.SystemCalls.Failed)
	}
	return nil
}

// refuseCalls makes the calls of one kind fail for which when(n) holds, n = 1, 2, …
// Calls come under locks of several owners, so the count has its own.
func refuseCalls(op osmem.Op, when func(n int) bool) {
	var mu sync.Mutex
	n := 0
	osmem.Inject(func(o osmem.Op) error {
		if o != op {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		if when(n) {
			return osmem.ErrInjected
		}
		return nil
	})
}

func commitRefusedOnce(arg string) error {
	nth, _ := strconv.Atoi(arg)
	refused := false
	refuseCalls(osmem.OpCommit, func(n int) bool { refused = refused || n == nth; return n == nth })
	if v := testkit.PanicOf(func() { _, err := work(1, 96<<20, 100); failIf(err) }); v != nil {
		// Only NewHeap may say so by a panic.
		if _, ok := v.(*hakmem.OutOfMemoryError); !ok {
			return fmt.Errorf("panic: %v", v)
		}
	}
	if !refused {
		return fmt.Errorf("the work made fewer than %d commit calls", nth)
	}
	if err := reported(); err != nil {
		return err
	}
	osmem.Inject(nil)
	return nothingLost()
}

// failIf makes an error a panic that is none of hakmem's.
func failIf(err error) {
	if err != nil {
		panic(err)
	}
}

// commitRefusedFrom: from the n-th call on the system has no memory. What is
// there can be used and used again; then the system has memory again.
func commitRefusedFrom(arg string) error {
	nth, _ := strconv.Atoi(arg)
	refuseCalls(osmem.OpCommit, func(n int) bool { return n >= nth })
	for seed := range uint64(3) {
		v := testkit.PanicOf(func() {
			n, err := work(seed, 1<<30, 2000)
			failIf(err)
			if n != 2000 {
				panic("a gigabyte was granted without commits")
			}
		})
		if _, ok := v.(*hakmem.OutOfMemoryError); v != nil && !ok {
			return fmt.Errorf("panic: %v", v)
		}
		if s := readStats(); s.Live != 0 {
			return fmt.Errorf("live %d bytes", s.Live)
		}
	}
	if err := reported(); err != nil {
		return err
	}
	osmem.Inject(nil)
	if err := comesBack(); err != nil { // n = 1 refused even the region's metadata
		return err
	}
	return nothingLost()
}

// comesBack allocates until there is a region: a refused reservation is tried
// again, more and more rarely while allocations fail.
func comesBack() error {
	failures := readStats().OutOfMemory
	for range 2*failures + 10 {
		if p := hakmem.Malloc(1); p != nil {
			hakmem.Free(p)
			return nil
		}
	}
	return fmt.Errorf("no region after %d failed allocations and twice as many more: %w", failures, hakmem.Err())
}

func commitRefusedAtRandom(arg string) error {
	seed, _ := strconv.ParseUint(arg, 10, 64)
	r := rand.New(rand.NewPCG(seed, 2))
	odds := []uint{2, 3, 10}[seed%3]
	refuseCalls(osmem.OpCommit, func(int) bool { return r.UintN(odds) == 0 })
	var wg sync.WaitGroup
	errs := make(chan any, 4)
	for g := range uint64(4) {
		wg.Go(func() {
			errs <- testkit.PanicOf(func() { _, err := work(seed*10+g, 48<<20, 5000); failIf(err) })
		})
	}
	wg.Wait()
	for range 4 {
		v := <-errs
		if _, ok := v.(*hakmem.OutOfMemoryError); v != nil && !ok {
			return fmt.Errorf("panic: %v", v)
		}
	}
	osmem.Inject(nil)
	return nothingLost()
}

// decommitRefused: Trim survives a system that keeps the memory, and what it
// could not return is still zeroed for Calloc.
func decommitRefused(string) error {
	refuseCalls(osmem.OpDiscard, func(n int) bool { return n%2 == 1 })
	for seed := range uint64(4) {
		if n, err := work(seed, 32<<20, 1); n != 0 || err != nil {
			return fmt.Errorf("%d failures: %w", n, err)
		}
		hakmem.Trim()
	}
	if err := reported(); err != nil {
		return err
	}
	osmem.Inject(nil)
	return nothingLost()
}

// churn is work by several goroutines, with Trim and ReadStats in between, while
// the scavenger is as quick as it can be.
func churn(seed uint64) error {
	var wg sync.WaitGroup
	errs := make(chan any, 3)
	for g := range uint64(3) {
		wg.Go(func() {
			errs <- testkit.PanicOf(func() { _, err := work(seed*10+g, 32<<20, 5000); failIf(err) })
		})
	}
	wg.Go(func() {
		for range 5 {
			hakmem.Trim()
			readStats()
		}
	})
	wg.Wait()
	for range 3 {
		v := <-errs
		if _, ok := v.(*hakmem.OutOfMemoryError); v != nil && !ok {
			return fmt.Errorf("panic: %v", v)
		}
	}
	return nil
}

// anyRefused makes calls of every kind fail, counted together, for which when(n)
// holds. Of two refused discards one leaves the memory decommitted, as it may
// happen where that is done in two steps.
func anyRefused(when func(n int) bool) (calls func() int) {
	var mu sync.Mutex
	n, refused := 0, 0
	osmem.Inject(func(op osmem.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; !when(n) {
			return nil
		}
		if refused++; op == osmem.OpDiscard && refused%2 == 0 {
			return fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)
		}
		return osmem.ErrInjected
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// quick makes the scavenger work a hundred times as often, and the region ask for
// huge pages and commit in small steps, for as many kinds of calls as there are.
var quick = append([]string{"HAKMEM_DECAY_MS=20", "HAKMEM_THP=always"}, smallSteps...)

// anyCallRefusedOnce: arg is which.
func anyCallRefusedOnce(arg string) error {
	nth, _ := strconv.Atoi(arg)
	var reached atomic.Bool // how many calls there are depends on the time they take
	anyRefused(func(n int) bool {
		if n == nth {
			reached.Store(true)
		}
		return n == nth
	})
	for i := range 10 {
		if err := churn(uint64(nth + i)); err != nil {
			return err
		}
		if reached.Load() || nth > 48 {
			break
		}
	}
	osmem.Inject(nil)
	switch {
	case reached.Load():
		if err := reported(); err != nil {
			return err
		}
	case nth <= 48:
		return fmt.Errorf("there was no call %d", nth)
	default:
		fmt.Println(notReached)
	}
	return nothingLost()
}

func anyCallRefusedAtRandom(arg string) error {
	seed, _ := strconv.ParseUint(arg, 10, 64)
	r := rand.New(rand.NewPCG(seed, 3))
	odds := []uint{2, 5, 30}[seed%3]
	anyRefused(func(int) bool { return r.UintN(odds) == 0 })
	for i := range uint64(3) {
		if err := churn(seed + i); err != nil {
			return err
		}
	}
	osmem.Inject(nil)
	if err := comesBack(); err != nil {
		return err
	}
	return nothingLost()
}

// TestAnyCallRefused: whichever memory call of the system fails, one or some, no
// block is lost, no lock is left held, and the next try is possible.
func TestAnyCallRefused(t *testing.T) {
	step, seeds := 1, 9
	if testing.Short() || raceEnabled {
		step, seeds = 12, 3
	}
	for n := 1; n <= 48; n += step {
		inChild(t, "any call refused once", strconv.Itoa(n), quick...)
	}
	for n := 52; n <= 800 && !t.Failed(); n += 4 * step { // as many as there are
		if !inChild(t, "any call refused once", strconv.Itoa(n), quick...) {
			t.Logf("call %d was not made", n)
			break
		}
	}
	for seed := range seeds {
		inChild(t, "any call refused at random", strconv.Itoa(seed), quick...)
	}
}

// reserveRefusedOnce: a smaller region serves.
func reserveRefusedOnce(arg string) error {
	nth, _ := strconv.Atoi(arg)
	refused := false
	refuseCalls(osmem.OpReserve, func(n int) bool { refused = refused || n == nth; return n == nth })
	if n, err := work(1, 32<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w: %w", n, err, hakmem.Err())
	}
	if !refused {
		fmt.Println(notReached)
		return nil
	}
	if err := reported(); err != nil {
		return err
	}
	osmem.Inject(nil)
	return nothingLost()
}

func TestCommitRefused(t *testing.T) {
	most, seeds := 40, 6
	if testing.Short() || raceEnabled { // the cases have at most four goroutines
		most, seeds = 6, 3
	}
	for n := 1; n <= most; n++ {
		inChild(t, "commit refused once", strconv.Itoa(n), smallSteps...)
		if n <= 6 || n%20 == 0 {
			inChild(t, "commit refused from", strconv.Itoa(n), smallSteps...)
		}
	}
	for seed := range seeds {
		inChild(t, "commit refused at random", strconv.Itoa(seed), smallSteps...)
	}
}

func TestDecommitRefused(t *testing.T) { inChild(t, "decommit refused", "") }

func TestReserveRefusedOnce(t *testing.T) {
	most := 10
	if testing.Short() {
		most = 2
	}
	for n := 1; n <= most; n++ {
		if !inChild(t, "reserve refused once", strconv.Itoa(n)) {
			if n < 6 {
				t.Errorf("there are only %d reservations", n-1)
			}
			break
		}
	}
}

// without checks every function of a hakmem that has no region.
func without() error {
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
		if m, instead := misuseOf(do); m == nil || m.Kind != foreign {
			return fmt.Errorf("%s of a stack address without a region: %s %v", what, instead, m)
		}
	}
	err := hakmem.Err()
	if err == nil || !strings.Contains(err.Error(), "address space") {
		return fmt.Errorf("Err() = %v, want it to say that no address space could be reserved", err)
	}
	if s := readStats(); s.Reserved != 0 || s.Live != 0 || s.OutOfMemory == 0 || len(s.Errors) == 0 {
		return fmt.Errorf("Stats: %+v", s)
	}
	return nil
}

func reservationRefused(string) error {
	refuseCalls(osmem.OpReserve, func(int) bool { return true })
	if err := without(); err != nil {
		return err
	}
	if err := reported(); err != nil {
		return err
	}
	osmem.Inject(nil)
	if err := comesBack(); err != nil {
		return err
	}
	return nothingLost()
}

func TestReservationRefused(t *testing.T) { inChild(t, "reservation refused", "") }

// beforeFirstUse: pointers and queries before there is a region.
func beforeFirstUse(string) error {
	var x [64]byte
	for what, do := range map[string]func(){
		"Free":            func() { hakmem.Free(unsafe.Pointer(&x)) },
		"Free, unaligned": func() { hakmem.Free(unsafe.Pointer(&x[1])) },
		"Free, wild":      func() { hakmem.Free(unsafe.Add(nil, uintptr(0xdeadbeef000))) },
		"UsableSize":      func() { hakmem.UsableSize(unsafe.Pointer(&x)) },
		"Realloc":         func() { hakmem.Realloc(unsafe.Pointer(&x), 100) },
		"FreeBytes":       func() { hakmem.FreeBytes(x[:]) },
	} {
		if m, instead := misuseOf(do); m == nil || m.Kind != foreign {
			return fmt.Errorf("%s before the first allocation: %s %v", what, instead, m)
		}
	}
	hakmem.Trim()
	hakmem.NewArena().Close()
	if s := readStats(); s.Reserved != 0 || s.Committed != 0 || s.SystemCalls != (hakmem.SystemCallStats{}) {
		return fmt.Errorf("something was reserved before the first allocation: %+v", s)
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	return nothingLost()
}

func TestBeforeFirstUse(t *testing.T) { inChild(t, "before first use", "") }

// wildAddresses frees addresses at every distance from the one live block: in
// the region, beside it, and where a larger region would have been.
func wildAddresses(string) error {
	h := hakmem.NewHeap()
	defer h.Close()
	takers := map[string]func(unsafe.Pointer){
		"Free":       hakmem.Free,
		"Heap.Free":  h.Free,
		"UsableSize": func(p unsafe.Pointer) { hakmem.UsableSize(p) },
		"Realloc":    func(p unsafe.Pointer) { hakmem.Realloc(p, 10) },
	}
	b := block{hakmem.Malloc(64), 64, 1}
	if b.p == nil {
		return hakmem.Err()
	}
	fill(b.p, b.size, b.key)
	var offsets []uintptr
	for shift := 4; shift < 64; shift++ {
		for eighth := range uintptr(8) {
			d := uintptr(1)<<shift + eighth<<shift/8&^15
			offsets = append(offsets, d, d+1, d+8, d-16, -d, -d+16)
		}
	}
	// Closely around the sizes that regions have.
	for _, size := range []uintptr{uintptr(readStats().Reserved), 1 << 28, 1 << 36, 1 << 40, 1<<40 + 1<<40/15, 1 << 41} {
		for i := range 9 {
			d := uintptr((i - 4) << 20)
			offsets = append(offsets, size+d, size*16/15+d, size*15/16+d, size/16+d)
		}
	}
	for _, off := range offsets {
		p := wild(b.p, off)
		if p == b.p || uintptr(p) < 4096 {
			continue
		}
		if below := uintptr(b.p) - uintptr(p); !osmem.ReadableReserve && below <= uintptr(readStats().Reserved) {
			continue // the live map's own part of the region: docs/design.md, section 12
		}
		for name, take := range takers {
			if m, instead := misuseOf(func() { take(p) }); m == nil || m.Addr != uintptr(p) || m.Kind == "" {
				return fmt.Errorf("%s(%p), %#x from a block, region of %d bytes: %s %v", name, p, off, readStats().Reserved, instead, m)
			}
		}
	}
	if !intact(b.p, b.size, b.key) {
		return fmt.Errorf("%v is damaged", b)
	}
	hakmem.Free(b.p)
	return nothingLost()
}

func TestWildAddressesAroundRegions(t *testing.T) {
	for _, bytes := range []int64{256 << 20, 1 << 30, 3 << 30, 100 << 30, 1 << 40} {
		inChild(t, "wild addresses", "", "HAKMEM_REGION_BYTES="+strconv.FormatInt(bytes, 10))
	}
	inChild(t, "wild addresses", "") // the default
}

// smallRegion is the least region.
const smallRegion = "HAKMEM_REGION_BYTES=268435456"

// storm fills a small region with blocks of one size (0: of all sizes), goes on
// asking, frees everything and works on.
func storm(arg string) error {
	n, _ := strconv.ParseUint(arg, 10, 64)
	size := func(i int) uintptr {
		if n != 0 {
			return uintptr(n)
		}
		return kindSizes[i%len(kindSizes)].size
	}
	var blocks []block
	failures := 0
	for i := 0; failures < 2*len(kindSizes); i++ {
		b := block{size: size(i), key: uint64(i)}
		if b.p = hakmem.Malloc(b.size); b.p == nil {
			failures++
			continue
		}
		*(*uint64)(b.p) = b.key // no other's: two holders of one block would be seen
		blocks = append(blocks, b)
	}
	full := readStats()
	if full.Live < 170<<20 { // a span of 100,000 bytes leaves a quarter of its pages
		return fmt.Errorf("full with %d bytes live of %d", full.Live, full.Reserved)
	}
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			h := hakmem.NewHeap()
			defer h.Close()
			for i := range 50_000 {
				p := []func(uintptr) unsafe.Pointer{hakmem.Malloc, h.Malloc}[i&1](max(size(i+g), 1<<20))
				if p != nil {
					panic("a full region granted a megabyte")
				}
			}
		})
	}
	wg.Wait()
	after := readStats()
	if got := after.OutOfMemory - full.OutOfMemory; got != 100_000 {
		return fmt.Errorf("100000 failed allocations, %d counted", got)
	}
	// Each look for what magazines still hold stops the world: it must not come
	// with every failure. This is the bound on the storm's time, as a count.
	if got := after.Drains - full.Drains; got > 5000 {
		return fmt.Errorf("100000 failed allocations emptied %d fronts", got)
	}
	if after.Live != full.Live {
		return fmt.Errorf("live %d bytes, before the storm %d", after.Live, full.Live)
	}
	for _, b := range blocks {
		if *(*uint64)(b.p) != b.key {
			return fmt.Errorf("%v is damaged", b)
		}
		hakmem.Free(b.p)
	}
	// Without any Trim: one block as large as most of the region is to be had,
	// though the pages were slabs of other classes and the magazines hold blocks.
	p := hakmem.Malloc(200 << 20)
	if p == nil {
		return fmt.Errorf("all freed, and no block of 200 MiB: %+v", readStats())
	}
	hakmem.Free(p)
	for _, k := range kindSizes {
		var ps []unsafe.Pointer
		for range min(50_000, 100<<20/k.size) {
			p := hakmem.Malloc(k.size)
			if p == nil {
				return fmt.Errorf("all freed: block %d of %d bytes = nil", len(ps), k.size)
			}
			ps = append(ps, p)
		}
		for _, p := range ps {
			hakmem.Free(p)
		}
	}
	return nothingLost()
}

func TestStormOfFailures(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; it writes a word to blocks of a byte, which have room for it elsewhere")
	}
	for _, size := range []int{0, 100, 20_000, 100_000, 3 << 20} {
		if testing.Short() && size != 0 {
			continue
		}
		inChild(t, "storm", strconv.Itoa(size), smallRegion)
	}
}

// reallocInFullRegion: a Realloc that finds no room leaves the block alone.
func reallocInFullRegion(string) error {
	var blocks []block
	for i := uint64(0); ; i++ {
		b := block{hakmem.Malloc(50_000), 50_000, i}
		if b.p == nil {
			break
		}
		fill(b.p, b.size, b.key)
		blocks = append(blocks, b)
	}
	live := readStats().Live
	h := hakmem.NewHeap()
	defer h.Close()
	for _, b := range blocks {
		if hakmem.Realloc(b.p, 100<<20) != nil || h.Realloc(b.p, 100<<20) != nil {
			return errors.New("a full region granted 100 MiB")
		}
		if !intact(b.p, b.size, b.key) || hakmem.UsableSize(b.p) < b.size {
			return fmt.Errorf("%v: damaged by a Realloc that failed", b)
		}
	}
	if now := readStats().Live; now != live {
		return fmt.Errorf("live %d bytes, before %d", now, live)
	}
	for _, b := range blocks {
		hakmem.Free(b.p)
	}
	return nothingLost()
}

func TestReallocInFullRegion(t *testing.T) { inChild(t, "realloc in full region", "", smallRegion) }

// gateInForce works a little with the gates of the environment.
func gateInForce(arg string) error {
	for g := range policy.Gates() {
		g := &policy.Gates()[g]
		want, set := os.LookupEnv(g.Name)
		if set && g.Value(policy.Current()) != want && g.Name != arg {
			return fmt.Errorf("%s = %s, want %s", g.Name, g.Value(policy.Current()), want)
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for g := range uint64(4) {
		wg.Go(func() {
			for seed := range uint64(2) {
				n, err := work(seed*10+g, 24<<20, 1)
				if n != 0 {
					err = fmt.Errorf("allocation failed: %w", hakmem.Err())
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		})
	}
	wg.Wait()
	for range 4 {
		if err := <-errs; err != nil {
			return err
		}
	}
	// Many blocks of one class: whole magazines, several slabs, flushes.
	for _, k := range kindSizes {
		var ps []unsafe.Pointer
		for range min(20_000, 16<<20/k.size) {
			p := hakmem.Malloc(k.size)
			if p == nil {
				return fmt.Errorf("block %d of %d bytes = nil: %w", len(ps), k.size, hakmem.Err())
			}
			ps = append(ps, p)
		}
		for _, p := range ps {
			hakmem.Free(p)
		}
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	return nothingLost()
}

// TestGateExtremes: every gate at both ends of its range, and at values within
// it that no one would choose.
func TestGateExtremes(t *testing.T) {
	odd := map[string][]string{
		"HAKMEM_SS_COMMIT_MIN": {"2097153", "3000000"},
		"HAKMEM_SS_COMMIT_MAX": {"2097153", "5000000"},
		"HAKMEM_REGION_BYTES":  {"268435457", "300000000"},
		"HAKMEM_REFILL":        {"3", "63"},
		"HAKMEM_FRONT_V2_CAP":  {"3"},
		"HAKMEM_MAG_BYTES":     {"1"},
	}
	for _, g := range policy.Gates() {
		var values []string
		switch g.Kind {
		case policy.Switch:
			values = []string{"0", "1"}
		case policy.Number:
			values = append(odd[g.Name], strconv.FormatInt(g.Min, 10), strconv.FormatInt(g.Max, 10))
			if testing.Short() {
				values = values[:1]
			}
		case policy.Choice:
			values = g.Choices
		}
		for _, v := range values {
			gates := []string{g.Name + "=" + v}
			if g.Name == "HAKMEM_SS_COMMIT_MIN" && v == strconv.FormatInt(g.Max, 10) {
				gates = append(gates, "HAKMEM_SS_COMMIT_MAX="+v) // not below the first
			}
			inChild(t, "gate", "", gates...)
		}
	}
	for _, v := range []string{"on", "off", "ON", "Off"} {
		inChild(t, "gate", "HAKMEM_SS_EMPTY_REUSE", "HAKMEM_SS_EMPTY_REUSE="+v)
	}
	// The smallest of everything at once, and the largest.
	inChild(t, "gate", "", "HAKMEM_FRONT_V2_CAP=2", "HAKMEM_MAG_BYTES=0", "HAKMEM_CAP_MID=2", "HAKMEM_MAG_MID_BYTES=0", "HAKMEM_MAG_GROW_BYTES=0", "HAKMEM_REFILL=1", "HAKMEM_SS_EMPTY_SCAN_LIMIT=1", "HAKMEM_SS_COMMIT_MAX=2097152", smallRegion)
	inChild(t, "gate", "", "HAKMEM_FRONT_V2_CAP=1023", "HAKMEM_MAG_GROW_BYTES=1073741824", "HAKMEM_MAG_BYTES=1073741824", "HAKMEM_CAP_MID=127", "HAKMEM_MAG_MID_BYTES=1073741824", "HAKMEM_REFILL=127", "HAKMEM_SS_EMPTY_SCAN_LIMIT=1048576", "HAKMEM_SS_MIN_KEEP=1048576")
	inChild(t, "gate", "", "HAKMEM_SS_EMPTY_REUSE=0", "HAKMEM_SS_EMPTY_FIRST=1", "HAKMEM_FRONT_FASTLANE=0")
	inChild(t, "gate", "", "HAKMEM_SS_EMPTY_FIRST=1", "HAKMEM_MODE=minimal")
}

// malformedGates wants every gate of the environment, all malformed, to be
// reported, and the defaults to be in force.
func malformedGates(string) error {
	if n, err := work(1, 8<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w", n, err)
	}
	set := 0
	err := hakmem.Err()
	for i := range policy.Gates() {
		g := &policy.Gates()[i]
		if value, ok := os.LookupEnv(g.Name); ok {
			set++
			if text := fmt.Sprint(err); !strings.Contains(text, g.Name+":") || !strings.Contains(text, strconv.Quote(value)) {
				return fmt.Errorf("Err() = %w, want it to name %s and %q", err, g.Name, value)
			}
		}
		if got := g.Value(policy.Current()); got != g.Default {
			return fmt.Errorf("%s = %s, want the default %s", g.Name, got, g.Default)
		}
	}
	if s := readStats(); len(s.Errors) != set {
		return fmt.Errorf("Stats.Errors = %v, want %d", s.Errors, set)
	}
	return nothingLost()
}

func TestMalformedGates(t *testing.T) {
	bad := []string{"abc", "12x", "-1", "0x10", "1.5", " 1", "99999999999999999999999", "below", "above"}
	if testing.Short() {
		bad = bad[:1]
	}
	for _, v := range bad {
		var gates []string
		for _, g := range policy.Gates() {
			if g.Kind == policy.Text {
				continue // takes anything
			}
			value := v
			switch {
			case v == "below" && g.Kind == policy.Number:
				value = strconv.FormatInt(g.Min-1, 10)
			case v == "above" && g.Kind == policy.Number:
				value = strconv.FormatInt(g.Max+1, 10)
			case v == "above" && g.Kind == policy.Switch:
				value = "2"
			}
			gates = append(gates, g.Name+"="+value)
		}
		inChild(t, "malformed gates", "", gates...)
	}
	inChild(t, "malformed gates", "", "HAKMEM_REFILL=on") // one alone
}

// configure: before the first allocation options win over the environment,
// later there is an error.
func configure(string) error {
	// (The environment has HAKMEM_REFILL=abc, HAKMEM_CAP_MID=32 and HAKMEM_DECAY_MS=77.)
	for _, bad := range []struct {
		o    hakmem.Options
		name string
	}{
		{hakmem.Options{Refill: -1}, "HAKMEM_REFILL"},
		{hakmem.Options{Refill: 1000}, "HAKMEM_REFILL"},
		{hakmem.Options{RegionBytes: 1}, "HAKMEM_REGION_BYTES"},
		{hakmem.Options{Mode: "swift"}, "HAKMEM_MODE"},
		{hakmem.Options{SSEmptyReuse: 7}, "HAKMEM_SS_EMPTY_REUSE"},
		{hakmem.Options{FrontV2Cap: 20, CapMid: 1}, "HAKMEM_CAP_MID"},
	} {
		err := hakmem.Configure(bad.o)
		if err == nil || !strings.Contains(err.Error(), bad.name) {
			return fmt.Errorf("Configure(%+v) = %v, want an error that names %s", bad.o, err, bad.name)
		}
		if p := policy.Current(); p.MagBlocks == 20 || p.Mode == "swift" {
			return fmt.Errorf("Configure failed and changed something: %+v", *p)
		}
	}
	if err := hakmem.Configure(hakmem.Options{Mode: "minimal", CapMid: 8, MagBytes: 500, WhaleBytes: -1}); err != nil {
		return err
	}
	o := hakmem.Options{RegionBytes: 512 << 20, Refill: 5, SSEmptyReuse: hakmem.Off, FrontFastLane: hakmem.On, MagBytes: 1000}
	if err := hakmem.Configure(o); err != nil {
		return err
	}
	p := policy.Current()
	if p.RegionBytes != 512<<20 || p.Refill != 5 || p.EmptyReuse || !p.FastLane || p.MagBytes != 1000 {
		return fmt.Errorf("Configure(%+v) gave %+v", o, *p)
	}
	if p.MidBlocks != 8 || p.Mode != "minimal" || p.DecayMs != 77 || p.WhaleBytes != 0 {
		return fmt.Errorf("Configure forgot the environment, or an earlier Configure: %+v", *p)
	}
	if n, err := work(1, 8<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w", n, err)
	}
	if got := readStats().Reserved; got != 512<<20 {
		return fmt.Errorf("reserved %d bytes, want 512 MiB", got)
	}
	for _, o := range []hakmem.Options{{}, {Refill: 6}} {
		if err := hakmem.Configure(o); !errors.Is(err, hakmem.ErrConfigured) {
			return fmt.Errorf("Configure after the first allocation = %v, want ErrConfigured", err)
		}
	}
	if p := policy.Current(); p.Refill != 5 {
		return fmt.Errorf("a late Configure changed Refill to %d", p.Refill)
	}
	return nothingLost()
}

func TestConfigure(t *testing.T) {
	inChild(t, "configure", "", "HAKMEM_REFILL=abc", "HAKMEM_CAP_MID=32", "HAKMEM_DECAY_MS=77")
}

// memoryLimit: the gates' limits hold from the first allocation on, and
// SetMemoryLimit changes them.
func memoryLimit(string) error {
	if soft, hard := hakmem.MemoryLimit(); soft != 16<<20 || hard != 32<<20 {
		return fmt.Errorf("limits of %d and %d before the first allocation", soft, hard)
	}
	fill := func() (blocks []unsafe.Pointer) {
		for len(blocks) < 10_000 {
			p := hakmem.Malloc(100_000)
			if p == nil {
				return blocks
			}
			blocks = append(blocks, p)
		}
		return blocks
	}
	blocks := fill()
	if soft, hard := hakmem.MemoryLimit(); soft != 16<<20 || hard != 32<<20 {
		return fmt.Errorf("limits of %d and %d from the gates", soft, hard)
	}
	if n := len(blocks); n < 240 || n > 256 { // 2 pages of 64 KiB each
		return fmt.Errorf("%d blocks of 128 KiB in 32 MiB", n)
	}
	if v := testkit.PanicOf(func() { hakmem.Alloc(100_000) }); v == nil {
		return errors.New("Alloc beyond the limit did not panic")
	} else if oom, ok := v.(*hakmem.OutOfMemoryError); !ok || !strings.Contains(oom.Error(), "hard memory limit of 33554432 bytes") || strings.Contains(oom.Error(), "HAKMEM_THP") {
		return fmt.Errorf("Alloc beyond the limit: %v", v)
	}
	// What becomes smaller needs no memory.
	for _, size := range []uintptr{70_000, 9000} {
		if p := hakmem.Realloc(blocks[0], size); p != blocks[0] {
			return fmt.Errorf("Realloc to %d bytes at the limit moved the block, or failed: %p", size, p)
		}
	}
	if n := hakmem.UsableSize(blocks[0]); n > 64<<10 && !asan.On { // a hardened block stays what it is
		return fmt.Errorf("a span that became smaller at the limit still has %d bytes", n)
	}
	if s := readStats(); s.Scavenger.LimitRefused == 0 || s.OutOfMemory == 0 {
		return fmt.Errorf("not counted: %d refused, %d out of memory", s.Scavenger.LimitRefused, s.OutOfMemory)
	}
	if err := hakmem.SetMemoryLimit(0, 64<<20); err != nil {
		return err
	}
	more := fill()
	if n := len(more); n < 240 || n > 256 {
		return fmt.Errorf("%d blocks more with a limit of 64 MiB", n)
	}
	if err := hakmem.SetMemoryLimit(100<<20, 64<<20); err == nil {
		return errors.New("a soft limit above the hard one was taken")
	}
	for _, p := range append(blocks, more...) {
		hakmem.Free(p)
	}
	p := hakmem.Malloc(50 << 20)
	if p == nil {
		return errors.New("all freed, and no 50 MiB in 64")
	}
	hakmem.Free(p)
	if err := hakmem.SetMemoryLimit(0, 0); err != nil {
		return err
	}
	return nothingLost()
}

func TestMemoryLimit(t *testing.T) {
	inChild(t, "memory limit", "", "HAKMEM_MEMORY_SOFT=16777216", "HAKMEM_MEMORY_HARD=33554432", "HAKMEM_THP=maybe")
}

// alignedInFullRegion: an aligned block of a superslab finds a free one, though no
// run is longer. And a region that is too small says so.
func alignedInFullRegion(string) error {
	const size = 2 << 20
	var blocks []unsafe.Pointer
	for p := hakmem.Malloc(size); p != nil; p = hakmem.Malloc(size) {
		blocks = append(blocks, p)
	}
	if v, ok := testkit.PanicOf(func() { hakmem.Alloc(size) }).(error); !ok || !strings.Contains(v.Error(), "is full: raise HAKMEM_REGION_BYTES") {
		return fmt.Errorf("the region is full: %v", v)
	}
	if v, ok := testkit.PanicOf(func() { hakmem.Alloc(1 << 33) }).(error); !ok || !strings.Contains(v.Error(), "raise HAKMEM_REGION_BYTES") {
		return fmt.Errorf("larger than the region: %v", v)
	}
	if v, ok := testkit.PanicOf(func() { hakmem.Alloc(1 << 50) }).(error); !ok || !strings.Contains(v.Error(), "no machine has as much") {
		return fmt.Errorf("larger than any: %v", v)
	}
	freed := 0
	for i, p := range blocks {
		if i%2 == 0 {
			hakmem.Free(p)
			freed++
		}
	}
	hakmem.Trim()
	for i := range freed {
		p := hakmem.AlignedAlloc(size, size)
		if p == nil || uintptr(p)%size != 0 {
			return fmt.Errorf("%d of %d superslabs are free, and AlignedAlloc gives %p", freed-i, freed, p)
		}
		blocks[2*i] = p
	}
	for _, p := range blocks {
		hakmem.Free(p)
	}
	return nothingLost()
}

func TestAlignedInFullRegion(t *testing.T) {
	classSizes(t) // a superslab's size
	inChild(t, "aligned in full region", "", smallRegion)
}

// limitStorm: 10^6 failures at the limit, then normal work.
func limitStorm(string) error {
	if err := hakmem.SetMemoryLimit(0, 8<<20); err != nil {
		return err
	}
	var blocks []unsafe.Pointer
	for failures := 0; failures < 1_000_000; {
		if p := hakmem.Malloc(3000); p != nil {
			blocks = append(blocks, p)
		} else {
			failures++
		}
	}
	if drains := readStats().Drains; drains > 10_000 {
		return fmt.Errorf("%d drains in 10^6 failures", drains)
	}
	for i, p := range blocks {
		hakmem.Free(p)
		if i%100 == 99 {
			p := hakmem.Malloc(3000)
			if p == nil {
				return fmt.Errorf("nil after %d blocks were freed", i)
			}
			hakmem.Free(p)
		}
	}
	if err := hakmem.SetMemoryLimit(0, 0); err != nil {
		return err
	}
	return nothingLost()
}

func TestLimitStorm(t *testing.T) { inChild(t, "limit storm", "") }
