package environments_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/smaps"
	"github.com/hakmem/hakmem/internal/testkit/workout"
	"golang.org/x/sys/unix"
)

// Address space that is reserved and not used: who looks at it, or has little of it.

// dumpable returns how many bytes a debugger's dump of this process reads: all mappings that can be
// read and are not left out of dumps.
func dumpable() (bytes, resident int, err error) {
	list, err := smaps.Read()
	for _, m := range list {
		if m.Readable && !m.Has("dd") {
			bytes += int(m.Size())
		}
		resident += int(m.Resident)
	}
	return bytes, resident, err
}

// tables are the MiB of hakmem's tables that a program has from its start: global arrays.
const tables = 23

var _ = testkit.Child("dump", dump)

func dump(string) error {
	bytesBefore, residentBefore, err := dumpable()
	if err != nil {
		return err
	}
	for range 16 {
		p := hakmem.Malloc(64 << 10)
		clear(unsafe.Slice((*byte)(p), 64<<10))
	}
	bytes, resident, err := dumpable()
	if err != nil {
		return err
	}
	more, used := bytes-bytesBefore, resident-residentBefore
	if more < mib || more > used+(100-tables)*mib {
		return fmt.Errorf("a dump has %d MiB more with 1 MiB alive, and %d MiB are resident", more/mib, used/mib)
	}
	return nil
}

// TestDump: a debugger that writes a dump, such as gcore, reads what is committed and no more. What
// is only reserved is hundreds of gigabytes.
func TestDump(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: -race and -asan map shadow memory")
	}
	testkit.InChild(t, "dump", "")
}

// status returns a figure of /proc/self/status in bytes.
func status(name string) (int, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name+":" {
			n, err := strconv.Atoi(f[1])
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no %s", name)
}

var _ = testkit.Child("locked", lockedProcess)

// lockedProcess locks all memory of the process, before hakmem's first use or after it.
func lockedProcess(arg string) error {
	lock := func() error { return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE) }
	if arg == "later" {
		hakmem.Free(hakmem.Malloc(16))
		if _, err := workout.Work(1, 32<<20, 1); err != nil {
			return err
		}
	}
	before, err := status("VmPTE")
	if err != nil {
		return err
	}
	if err := lock(); err != nil {
		fmt.Println(testkit.NotReached, err)
		return nil
	}
	_, rss, err := dumpable()
	if err != nil {
		return err
	}
	p := hakmem.Malloc(16)
	after, err := status("VmPTE")
	if err != nil {
		return err
	}
	_, rssAfter, err := dumpable()
	if err != nil {
		return err
	}
	if after-before > 10*mib || arg == "first" && rssAfter-rss > 100*mib {
		return fmt.Errorf("the first Malloc in a locked process took %d MiB, and %d MiB of page tables", (rssAfter-rss)/mib, (after-before)/mib)
	}
	hakmem.Free(p)
	if n, err := workout.Work(2, 64<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w: %w", n, err, hakmem.Err())
	}
	if arg == "first" {
		// What is touched is locked, as the program wants it.
		p := hakmem.Malloc(4 * mib)
		locked, err := status("VmLck")
		if err != nil {
			return err
		}
		if locked < 4*mib {
			return fmt.Errorf("%d bytes of the process are locked", locked)
		}
		hakmem.Free(p)
	}
	return workout.NothingLost()
}

// TestLockedProcess: in a process that has called mlockall a reservation is not filled with memory.
func TestLockedProcess(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: mlockall would fill the shadow memory of -race and -asan")
	}
	for _, when := range []string{"first", "later"} {
		if !testkit.InChild(t, "locked", when) {
			t.Skip("skipped: the process may not lock its memory (RLIMIT_MEMLOCK)")
		}
	}
}

var _ = testkit.Child("usable address space", usableAddressSpace)

// usableAddressSpace fills what there is under a limit on address space.
func usableAddressSpace(arg string) error {
	size, _ := strconv.Atoi(arg)
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &lim); err != nil {
		return err
	}
	virtual, err := status("VmSize")
	if err != nil {
		return err
	}
	left := float64(lim.Cur) - float64(virtual)
	var last uintptr // each block holds the address of the one before it: a slice would count against the limit
	used := 0.0
	for p := hakmem.Malloc(uintptr(size)); p != nil; p = hakmem.Malloc(uintptr(size)) {
		*(*uintptr)(p), last = last, uintptr(p)
		used += float64(size)
	}
	if used < 0.6*left {
		return fmt.Errorf("%.0f MiB of blocks of %d bytes in %.0f MiB of address space, which is %.0f %%: %w", used/mib, size, left/mib, 100*used/left, hakmem.Err())
	}
	if err := hakmem.Err(); err == nil || !strings.Contains(err.Error(), "RLIMIT_AS") {
		return fmt.Errorf("Err() = %w does not name the limit", err)
	}
	for last != 0 {
		p := unsafe.Add(nil, last)
		last = *(*uintptr)(p)
		hakmem.Free(p)
	}
	// Go's heap has room left, too.
	runtime.KeepAlive(make([]byte, 64*mib))
	return workout.NothingLost()
}

// limited runs a case under a limit on address space.
func limited(t *testing.T, gib float64, child, arg string, settings ...string) string {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("skipped: no sh: ", err)
	}
	cmd := exec.Command(shell, "-c", fmt.Sprintf(`ulimit -v %d && exec "$0"`, int(gib*(1<<20))), os.Args[0])
	cmd.Env = append(append(os.Environ(), testkit.ChildEnv(child, arg)), settings...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s under %v GiB: %v\n%s", child, arg, gib, err, out[:min(len(out), 2000)])
	}
	return string(out)
}

// TestUsableAddressSpace: hakmem takes address space as it needs it, and most of it is blocks.
func TestUsableAddressSpace(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: the shadow memory of -race and -asan alone is larger than the limits")
	}
	for _, size := range []int{256, 4096, 64 << 10, 1 << 20} {
		limited(t, 4, "usable address space", strconv.Itoa(size))
	}
	limited(t, 2.5, "usable address space", "65536")
}

var _ = testkit.Child("region size", regionSize)

// regionSize checks a HAKMEM_REGION_BYTES of 3 GiB. arg is "granted" or "reported".
func regionSize(arg string) error {
	p := hakmem.Malloc(16)
	if p == nil {
		return hakmem.Err()
	}
	hakmem.Free(p)
	s := workout.ReadStats()
	switch err := hakmem.Err(); arg {
	case "granted":
		if err != nil || s.Reserved != 3<<30 {
			return fmt.Errorf("%d bytes are reserved: %w", s.Reserved, err)
		}
	default:
		if err == nil || !strings.Contains(err.Error(), "HAKMEM_REGION_BYTES=3221225472") {
			return fmt.Errorf("Err() = %w does not report the size that could not be had", err)
		}
	}
	return workout.NothingLost()
}

// TestRegionSize: a size that is set is had, or Err says that it is not.
func TestRegionSize(t *testing.T) {
	const setting = "HAKMEM_REGION_BYTES=3221225472"
	testkit.InChild(t, "region size", "granted", setting)
	if testkit.Race || asan.On {
		t.Skip("skipped: the shadow memory of -race and -asan alone is larger than the limit")
	}
	limited(t, 4, "region size", "reported", setting)
	limited(t, 8, "region size", "granted", setting)
}

var _ = testkit.Child("four allocations", func(string) error {
	for _, size := range []uintptr{16, 4096, 64 << 10, 4 << 20} {
		p := hakmem.Calloc(1, size)
		if p == nil {
			return hakmem.Err()
		}
		hakmem.Free(p)
	}
	return hakmem.Err()
})

// TestEmulator: under qemu's user emulation a program with four allocations needs little memory, and
// a processor whose addresses have 39 bits is no error.
func TestEmulator(t *testing.T) {
	const qemu, most = "qemu-aarch64-static", 400_000_000
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skipf("skipped: no %s (Debian's qemu-user-static)", qemu)
	}
	if testkit.Race || asan.On {
		t.Skip("skipped: another build is run under the emulator")
	}
	program := filepath.Join(t.TempDir(), "test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, reserve := range []string{"", "0x8000000000"} {
		args := []string{program}
		if reserve != "" { // the size of the emulated address space
			args = []string{"-R", reserve, program}
		}
		cmd := exec.Command(qemu, args...)
		cmd.Env = append(os.Environ(), testkit.ChildEnv("four allocations", ""))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s %v: %v\n%s", qemu, args[:len(args)-1], err, out)
			continue
		}
		usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok || usage.Maxrss<<10 > most {
			t.Errorf("%s %v: %d MB for four allocations, want at most %d", qemu, args[:len(args)-1], usage.Maxrss>>10, most/1000000)
		}
		t.Logf("%s %v: %d MB, %v", qemu, args[:len(args)-1], usage.Maxrss>>10, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
}
