//go:build amd64 || arm64

package environments_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
	"golang.org/x/sys/unix"
)

// Locked memory (mlock and its kin) that is freed without being unlocked. The kernel returns it since
// Linux 5.18. On older ones, which a filter imitates here, everything around it goes back, and it is
// left alone.

// lockers lock the memory of a block or more, in the ways that there are.
var lockers = map[string]func(b []byte) error{
	"mlock": unix.Mlock,
	"mlock2": func(b []byte) error {
		_, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MLOCK_ONFAULT)
		if errno != 0 {
			return errno
		}
		return nil
	},
	// Without ONFAULT the reservation would be populated, too.
	"mlockall": func([]byte) error { return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_ONFAULT) },
}

func memory(p unsafe.Pointer, size uintptr) []byte { return unsafe.Slice((*byte)(p), size) }

// resident returns how many bytes of the blocks of one size are resident.
func residentOf(blocks []unsafe.Pointer, size uintptr) (n uintptr, err error) {
	var l osmem.Look
	if err := osmem.BeginLook(&l); err != nil {
		return 0, err
	}
	defer l.Close()
	for _, p := range blocks {
		has, known := l.Resident(mem.Addr(p), mem.Bytes(size))
		if !known {
			return 0, osmem.ErrNotSupported
		}
		n += uintptr(has)
	}
	return n, nil
}

var _ = testkit.Child("freed while locked", freedWhileLocked)

// freedWhileLocked frees 64 MiB, of which one block in the middle is locked. arg is the locker and,
// behind a slash, "new" or "old" for the kernel.
func freedWhileLocked(arg string) error {
	how, kernel, _ := strings.Cut(arg, "/")
	if kernel == "old" {
		if err := set(noLockedReturn()); err != nil {
			fmt.Println("no filter:", err)
			return nil
		}
	}
	const size, n = 64 << 10, 1024
	var blocks []unsafe.Pointer
	for range n {
		p := hakmem.Malloc(size)
		testkit.Fill(p, size, 1)
		blocks = append(blocks, p)
	}
	lock := memory(blocks[n/2], size)
	if err := lockers[how](lock); err != nil {
		fmt.Println("cannot lock:", err)
		return nil
	}
	for _, p := range blocks {
		hakmem.Free(p)
	}
	if err := atRest(); err != nil {
		return err
	}
	still, err := residentOf(blocks, size)
	if err != nil {
		return err
	}
	all := how == "mlockall"
	s := workout.ReadStats()
	if kernel == "new" {
		if err := hakmem.Err(); still != 0 || s.Scavenger.Dirty != 0 || s.SystemCalls.Failed != 0 || err != nil {
			return fmt.Errorf("%d bytes resident, %d dirty, %d failed calls, Err() = %w", still, s.Scavenger.Dirty, s.SystemCalls.Failed, err)
		}
		return workout.NothingLost()
	}
	// The block lies in one page of the kernel's or in several of hakmem's.
	if !all && (still > size || s.Scavenger.Dirty > size) || s.SystemCalls.Failed == 0 || s.SystemCalls.Failed > 1000 {
		return fmt.Errorf("%d bytes resident, %d dirty, %d failed calls", still, s.Scavenger.Dirty, s.SystemCalls.Failed)
	}
	text := fmt.Sprint(hakmem.Err())
	if where := fmt.Sprintf("%d bytes at %#x", size, uintptr(blocks[n/2])); strings.Count(text, "refuses") != 1 || !all && !strings.Contains(text, where) || !strings.Contains(text, "munlock") {
		return fmt.Errorf("Err() = %s, want it to name %s and munlock, once", text, where)
	}
	// While the scavenger works on other things, it hardly asks again.
	before := s.SystemCalls.Failed
	for start := time.Now(); time.Since(start) < 3*time.Second; time.Sleep(20 * time.Millisecond) {
		p := hakmem.Malloc(5 << 20)
		testkit.Fill(p, 1<<20, 1)
		hakmem.Free(p)
	}
	if err := atRest(); err != nil {
		return err
	}
	s = workout.ReadStats()
	if again := s.SystemCalls.Failed - before; !all && again > 150 { // 4 times, after 0.2, 0.4, 0.9 and 1.8 s, and each is narrowed down
		return fmt.Errorf("%d more failed calls in 3 s", again)
	}
	// Once it is unlocked, Trim returns it.
	if err := unix.Munlockall(); err != nil {
		return err
	}
	hakmem.Trim()
	still, err = residentOf(blocks, size)
	if s = workout.ReadStats(); err != nil || still != 0 || s.Scavenger.Dirty != 0 {
		return fmt.Errorf("unlocked and trimmed: %d bytes resident, %d dirty, %w", still, s.Scavenger.Dirty, err)
	}
	return workout.NothingLost()
}

var _ = testkit.Child("hole while locked", holeWhileLocked)

// holeWhileLocked frees most blocks of sparse slabs. A free one of them is locked, and so is a live
// one next to a hole.
func holeWhileLocked(arg string) error {
	if arg == "old" {
		if err := set(noLockedReturn()); err != nil {
			fmt.Println("no filter:", err)
			return nil
		}
	}
	const size, n = 16 << 10, 2048
	var blocks, free, live []unsafe.Pointer
	for range n {
		p := hakmem.Malloc(size)
		testkit.Fill(p, size, 1)
		blocks = append(blocks, p)
	}
	for i, p := range blocks {
		if i%16 == 0 {
			live = append(live, p)
		} else {
			free = append(free, p)
		}
	}
	for _, p := range []unsafe.Pointer{free[len(free)/2], live[len(live)/3]} {
		if err := unix.Mlock(memory(p, size)); err != nil {
			fmt.Println("cannot lock:", err)
			return nil
		}
	}
	for _, p := range free {
		hakmem.Free(p)
	}
	if err := atRest(); err != nil {
		return err
	}
	still, err := residentOf(free, size)
	s := workout.ReadStats()
	// Blocks at the ends of slabs share a unit of a hole with live ones.
	if most := uintptr(len(live)) * size; err != nil || still > most {
		return fmt.Errorf("%d bytes of %d free ones are resident, want at most %d; %w", still, len(free)*size, most, err)
	}
	locked, err := residentOf(free[len(free)/2:][:1], size)
	if arg == "new" {
		if locked != 0 || s.SystemCalls.Failed != 0 || hakmem.Err() != nil || err != nil {
			return fmt.Errorf("%d bytes of the locked block are resident, %d failed calls, Err() = %v; %w", locked, s.SystemCalls.Failed, hakmem.Err(), err)
		}
	} else if text := fmt.Sprint(hakmem.Err()); locked == 0 || s.SystemCalls.Failed == 0 || s.SystemCalls.Failed > 100 || strings.Count(text, "refuses") != 1 {
		return fmt.Errorf("%d bytes of the locked block are resident, %d failed calls, Err() = %s", locked, s.SystemCalls.Failed, text)
	}
	before := s.SystemCalls.Failed
	for start := time.Now(); time.Since(start) < 2*time.Second; time.Sleep(20 * time.Millisecond) {
		hakmem.Free(hakmem.Malloc(5 << 20))
	}
	if s = workout.ReadStats(); s.SystemCalls.Failed-before > 60 {
		return fmt.Errorf("%d more failed calls in 2 s", s.SystemCalls.Failed-before)
	}
	for _, p := range live {
		if !testkit.Intact(p, size, 1) {
			return fmt.Errorf("the block at %p is damaged", p)
		}
		hakmem.Free(p)
	}
	if err := unix.Munlockall(); err != nil {
		return err
	}
	return workout.NothingLost()
}

func TestLocked(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: -race, -asan; the sanitizers do not let memory be locked")
	}
	if os.Getpagesize() != 4096 {
		t.Skip("skipped: the sizes here are made for pages of 4 KiB")
	}
	kernels := []string{"old"}
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	if unix.Madvise(page, unix.MADV_DONTNEED_LOCKED) == nil {
		kernels = append(kernels, "new")
	} else {
		t.Log("skipped: new; Linux before 5.18 does not return locked memory")
	}
	for _, kernel := range kernels {
		for how := range lockers {
			t.Run(how+"/"+kernel, func(t *testing.T) {
				t.Parallel()
				testkit.InChild(t, "freed while locked", how+"/"+kernel, quickly...)
			})
		}
		t.Run("hole/"+kernel, func(t *testing.T) {
			t.Parallel()
			testkit.InChild(t, "hole while locked", kernel, quickly...)
		})
	}
}
