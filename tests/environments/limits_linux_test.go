package environments_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
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
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of memory limits: how much of a limit is usable, what is resident within it, and that a
// container whose limit is a little larger never ends the process.

// list is a list of blocks that takes no memory of its own: each block begins with the address of
// the one before it.
type list struct {
	last  unsafe.Pointer
	n     int
	bytes uintptr
}

// add writes to every OS page of a block of size bytes, and adds the block.
func (l *list) add(p unsafe.Pointer, size uintptr) {
	for i := uintptr(0); i < size; i += 4096 {
		*(*byte)(unsafe.Add(p, i)) = 1
	}
	if size > 0 {
		*(*byte)(unsafe.Add(p, size-1)) = 1
	}
	*(*unsafe.Pointer)(p) = l.last
	l.last = p
	l.n++
	l.bytes += size
}

// fill adds blocks of size bytes until there is no memory.
func (l *list) fill(malloc func(uintptr) unsafe.Pointer, size uintptr) {
	for p := malloc(size); p != nil; p = malloc(size) {
		l.add(p, size)
	}
}

// free frees the blocks for which choose is true.
func (l *list) free(size uintptr, choose func() bool) {
	old := l.last
	*l = list{}
	for p := old; p != nil; {
		next := *(*unsafe.Pointer)(p)
		if choose() {
			hakmem.Free(p)
		} else {
			*(*unsafe.Pointer)(p) = l.last
			l.last = p
			l.n++
			l.bytes += size
		}
		p = next
	}
}

func all() bool { return true }

// plain skips tests of resident memory in builds in which other memory is resident for each block.
func plain(t *testing.T) {
	t.Helper()
	switch {
	case testkit.Race:
		t.Skip("skipped: -race; its shadow memory is resident, too")
	case asan.On:
		t.Skip("skipped: -asan; its shadow memory is resident, too")
	case osmem.PageSize() != 4096:
		t.Skip("skipped: OS pages above 4 KiB, of which blocks use parts")
	}
}

// noHuge lets no system make huge pages of memory that nobody touched.
const noHuge = "HAKMEM_THP=never"

const hardLimit = 96 << 20

var usableSizes = []uintptr{16, 48, 64, 128, 256, 512, 1024, 1536, 4 << 10, 10 << 10, 20 << 10, 32 << 10, 33 << 10, 36<<10 + 1, 40 << 10, 64 << 10, 65 << 10, 100 << 10, 200 << 10, 500 << 10, 1 << 20, 2 << 20}

var _ = testkit.Child("usable share of a limit", usableShare)

// underLimit sets the hard limit, and returns what was resident before.
func underLimit() (base uint64, err error) {
	hakmem.Free(hakmem.Malloc(16))
	if base, err = residentNow(); err != nil {
		return 0, err
	}
	return base, hakmem.SetMemoryLimit(0, hardLimit)
}

// usableShare: at least 85 % of a hard limit is usable for blocks of each size, one size after the
// other, and no more than the limit is ever resident.
func usableShare(string) error {
	base, err := underLimit()
	if err != nil {
		return err
	}
	for _, size := range usableSizes {
		var l list
		l.fill(hakmem.Malloc, size)
		now, err := residentNow()
		if err != nil {
			return err
		}
		// A block of 36 KiB and a byte takes 40 KiB: sizes are rounded up to classes.
		if usable := l.n * int(hakmem.GoodSize(size)); usable < hardLimit/100*85 {
			return fmt.Errorf("%d bytes: nil at %.1f %% of the limit, %+v", size, 100*float64(usable)/hardLimit, workout.ReadStats().Scavenger)
		}
		if most := base + hardLimit/100*105; now > most {
			return fmt.Errorf("%d bytes: %d bytes resident, %d before, with a limit of %d", size, now, base, uint64(hardLimit))
		}
		s := workout.ReadStats()
		if s.Counted > hardLimit || s.Resident > s.Counted+hardLimit/100 {
			return fmt.Errorf("%d bytes: counted %d, resident %d, with a limit of %d", size, s.Counted, s.Resident, uint64(hardLimit))
		}
		l.free(size, all)
	}
	return workout.NothingLost()
}

func TestUsableShareOfALimit(t *testing.T) {
	plain(t)
	testkit.InChild(t, "usable share of a limit", "", noHuge)
	testkit.InChild(t, "usable share of a limit", "", noHuge, "HAKMEM_MODE=minimal")
	testkit.InChild(t, "usable share of a limit", "", noHuge, "HAKMEM_MODE=fast")
}

var _ = testkit.Child("holes in a limit", holesInALimit)

// holesInALimit: nine tenths of small blocks are freed at random. Blocks of another size are refused
// only when what is resident has come near the limit, and then nothing is resident beyond it. The
// small size can be had again afterwards.
func holesInALimit(arg string) error {
	n, _ := strconv.Atoi(arg)
	size := uintptr(n)
	base, err := underLimit()
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, uint64(size)))
	var small list
	small.fill(hakmem.Malloc, size)
	for round := range 3 {
		small.free(size, func() bool { return r.UintN(10) != 0 })
		for _, other := range []uintptr{64 << 10, 33 << 10, 5000, size} {
			var l list
			l.fill(hakmem.Malloc, other)
			now, err := residentNow()
			if err != nil {
				return err
			}
			if now > base+hardLimit/100*105 {
				return fmt.Errorf("round %d, %d bytes after %d: %d bytes resident, %d before", round, other, size, now, base)
			}
			if now < base+hardLimit/100*85 {
				return fmt.Errorf("round %d: %d bytes after %d: nil with %d bytes resident, %d before: %+v", round, other, size, now, base, workout.ReadStats().Scavenger)
			}
			if other == size {
				small.free(size, all)
				small = l
				break
			}
			l.free(other, all)
		}
	}
	small.free(size, all)
	return workout.NothingLost()
}

func TestHolesInALimit(t *testing.T) {
	plain(t)
	for _, size := range []string{"64", "1024", "3000"} {
		testkit.InChild(t, "holes in a limit", size, noHuge)
	}
}

var _ = testkit.Child("resident memory", residentMemory)

// residentMemory: Stats.Resident is what the process has resident because of hakmem, within 3 %, for
// heaps of several kinds.
func residentMemory(string) error {
	// What Go needs for Heaps and statistics it has from the start.
	heaps := make([]*hakmem.Heap, 100)
	for i := range heaps {
		heaps[i] = hakmem.NewHeap()
		heaps[i].Free(heaps[i].Malloc(16))
	}
	for _, h := range heaps {
		h.Close()
	}
	hakmem.Trim()
	runtime.GC()
	s := workout.ReadStats()
	base, err := residentNow()
	if err != nil {
		return err
	}
	base -= s.Resident
	compare := func(what string) error {
		s := workout.ReadStats()
		now, err := residentNow()
		if err != nil {
			return err
		}
		// A MiB is for Go's own memory, and for the delay of the kernel's number.
		if is, want := int64(s.Resident), int64(now-base); max(is-want, want-is) > want*3/100+1<<20 {
			return fmt.Errorf("%s: resident %d by the statistics, %d by the system", what, is, want)
		}
		if s.Resident > s.Counted+s.Counted/100+1<<20 {
			return fmt.Errorf("%s: resident %d, counted only %d", what, s.Resident, s.Counted)
		}
		return nil
	}
	var l list
	for range 100_000 {
		l.add(hakmem.Malloc(100), 100)
	}
	if err := compare("small blocks"); err != nil {
		return err
	}
	untouched := hakmem.Malloc(200 << 20)
	if err := compare("a block that was not touched"); err != nil {
		return err
	}
	site := hakmem.RegisterSite("environments")
	for range 100_000 {
		l.add(hakmem.MallocAt(site, 64), 64)
	}
	if err := compare("blocks with a site"); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	l.free(0, func() bool { return r.UintN(3) != 0 })
	for range 2000 {
		l.add(hakmem.Malloc(33<<10), 33<<10)
	}
	for i := range heaps {
		heaps[i] = hakmem.NewHeap()
		l.add(heaps[i].Malloc(1000), 1000)
	}
	if err := compare("large blocks and Heaps"); err != nil {
		return err
	}
	hakmem.Free(untouched)
	l.free(0, all)
	hakmem.Trim()
	if err := compare("all freed"); err != nil {
		return err
	}
	for _, h := range heaps {
		h.Close()
	}
	return nil
}

func TestResidentMemory(t *testing.T) {
	plain(t)
	testkit.InChild(t, "resident memory", "", noHuge)
}

var _ = testkit.Child("soft limit below what is alive", softLimit)

// softLimit: with a soft limit of 1.02 of what is alive, 8 goroutines allocate and free all the time.
// There is little to return, so after some seconds the world is stopped at most once a second for the
// limit.
func softLimit(string) error {
	const goroutines, blocks = 8, 4000
	var stop atomic.Bool
	var ready, done sync.WaitGroup
	for g := range goroutines {
		ready.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			r := rand.New(rand.NewPCG(7, uint64(g)))
			var all [blocks]unsafe.Pointer
			replace := func(i int) {
				hakmem.Free(all[i])
				all[i] = hakmem.Malloc(testkit.RandomSize(r) + 8)
				*(*byte)(all[i]) = 1
			}
			for i := range all {
				replace(i)
			}
			ready.Done()
			for !stop.Load() {
				replace(r.IntN(blocks))
			}
			for _, p := range all {
				hakmem.Free(p)
			}
		}()
	}
	ready.Wait()
	s := workout.ReadStats()
	if err := hakmem.SetMemoryLimit(s.Live/100*102, 0); err != nil {
		return err
	}
	time.Sleep(4 * time.Second)
	was := workout.ReadStats().Scavenger
	const seconds = 5
	time.Sleep(seconds * time.Second)
	now := workout.ReadStats().Scavenger
	stop.Store(true)
	done.Wait()
	if was.PressureRounds == 0 {
		return errors.New("the soft limit was never near")
	}
	if n := now.PressureRounds - was.PressureRounds; n > seconds {
		return fmt.Errorf("%d rounds in %d s, which returned %d bytes", n, seconds, now.PressureReturned-was.PressureReturned)
	}
	if err := hakmem.SetMemoryLimit(0, 0); err != nil {
		return err
	}
	return workout.NothingLost()
}

func TestSoftLimitBelowWhatIsAlive(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: -short; it waits for nine seconds")
	}
	testkit.InChild(t, "soft limit below what is alive", "")
}

// inContainer runs a case in a process that begins in the group of procs.
func inContainer(t *testing.T, procs, name, arg string, settings ...string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `echo $$ > "$1" && exec "$2"`, "sh", procs, os.Args[0])
	cmd.Env = append(append(os.Environ(), append([]string{noHuge}, settings...)...), testkit.ChildEnv(name, arg))
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		t.Skip("skipped: no sh: ", err)
	case err != nil:
		t.Errorf("%s %s %v: %v\n%s", name, arg, settings, err, out[:min(len(out), 2000)])
	}
}

const (
	inLimit        = 120 << 20
	containerBytes = inLimit / 100 * 112
)

var _ = testkit.Child("until nil", untilNil)

// untilNil allocates by one function until there is no memory, twice, and touches what it gets.
func untilNil(arg string) error {
	hakmem.Free(hakmem.Malloc(16))
	if err := hakmem.SetMemoryLimit(0, inLimit); err != nil {
		return err
	}
	api, number, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(number)
	size := uintptr(n)
	site := hakmem.RegisterSite("until nil")
	var heap *hakmem.Heap
	var heaps []*hakmem.Heap
	defer func() {
		for _, h := range heaps {
			h.Close()
		}
	}()
	malloc := hakmem.Malloc
	switch api {
	case "MallocAt":
		malloc = func(n uintptr) unsafe.Pointer { return hakmem.MallocAt(site, n) }
	case "Calloc":
		malloc = func(n uintptr) unsafe.Pointer { return hakmem.Calloc(1, n) }
	case "Realloc":
		malloc = func(n uintptr) unsafe.Pointer {
			p := hakmem.Malloc(n / 3)
			if q := hakmem.Realloc(p, n); q != nil || p == nil {
				return q
			}
			hakmem.Free(p)
			return nil
		}
	case "Heap":
		heap = hakmem.NewHeap()
		heaps = append(heaps, heap)
		malloc = heap.Malloc
	case "Heaps": // a thousand open ones, of which each has allocated
		for range 1000 {
			h := hakmem.NewHeap()
			heaps = append(heaps, h)
			if p := h.Malloc(size); p != nil {
				*(*byte)(p) = 1
				h.Free(p)
			}
		}
	case "Arena":
		for range 2 {
			a := hakmem.NewArena()
			v := testkit.PanicOf(func() {
				for {
					p := a.Alloc(size, 8)
					for i := uintptr(0); i < size; i += 4096 {
						*(*byte)(unsafe.Add(p, i)) = 1
					}
				}
			})
			if _, ok := v.(*hakmem.OutOfMemoryError); !ok {
				return fmt.Errorf("Arena.Alloc panicked with %v", v)
			}
			a.Close()
		}
		return nil
	}
	for range 2 {
		var l list
		l.fill(malloc, size)
		if l.n == 0 {
			return fmt.Errorf("not a single block: %w; %+v", hakmem.Err(), workout.ReadStats().GlobalStats)
		}
		if s := workout.ReadStats(); s.OutOfMemory == 0 {
			return errors.New("no allocation failed")
		}
		l.free(size, all)
	}
	return nil
}

// TestContainer: in a container of 1.12 times the hard limit, every way to allocate ends in nil or a
// panic, and never in the kernel's killing the process.
func TestContainer(t *testing.T) {
	plain(t)
	procs, _ := testkit.Container(t, containerBytes)
	for _, arg := range []string{"Malloc 16", "Malloc 1024", "Malloc 33792", "Malloc 66560", "MallocAt 16", "MallocAt 2000", "Calloc 500", "Realloc 5000", "Realloc 300000", "Heap 16", "Heaps 16", "Heaps 4000", "Arena 100", "Arena 40000"} {
		inContainer(t, procs, "until nil", arg)
	}
	for _, setting := range []string{"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1", "HAKMEM_GUARD=1/10", "HAKMEM_MODE=minimal", "HAKMEM_MODE=fast", "HAKMEM_TIMING=1", "HAKMEM_KEEP=always", "HAKMEM_THP=always"} {
		for _, arg := range []string{"Malloc 16", "MallocAt 48", "Malloc 40000", "Heap 3000"} {
			inContainer(t, procs, "until nil", arg, setting)
		}
	}
}

var _ = testkit.Child("limit of the container", limitOfContainer)

// limitOfContainer: arg is the container's limit and the limits that should be in force.
func limitOfContainer(arg string) error {
	var limit, soft, hard uint64
	if _, err := fmt.Sscan(arg, &limit, &soft, &hard); err != nil {
		return err
	}
	if n, ok := hakmem.ContainerLimit(); n != limit || !ok {
		return fmt.Errorf("ContainerLimit() = %d, %t, want %d", n, ok, limit)
	}
	hakmem.Free(hakmem.Malloc(16))
	if s, h := hakmem.MemoryLimit(); s != soft || h != hard {
		return fmt.Errorf("the limits are %d and %d, want %d and %d", s, h, soft, hard)
	}
	var l list
	l.fill(hakmem.Malloc, 1000)
	l.free(1000, all)
	return hakmem.Err()
}

// TestLimitOfTheContainer: the settings take their limits from the container that the process is in.
func TestLimitOfTheContainer(t *testing.T) {
	plain(t)
	const mib = 1 << 20
	procs, _ := testkit.Container(t, 100*mib)
	for _, c := range []struct {
		soft, hard uint64
		settings   []string
	}{
		{0, 85 * mib, []string{"HAKMEM_MEMORY_HARD=cgroup"}},
		{60 * mib, 80 * mib, []string{"HAKMEM_MEMORY_SOFT=60%", "HAKMEM_MEMORY_HARD=80%"}},
	} {
		inContainer(t, procs, "limit of the container", fmt.Sprint(100*mib, c.soft, c.hard), c.settings...)
	}
}
