package osmem

import (
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// noReserve keeps a reservation out of the system's accounting of memory and swap.
const noReserve = unix.MAP_NORESERVE

// mapAt maps fresh memory at addr. fixed says what becomes of what is there: MAP_FIXED replaces it,
// MAP_FIXED_NOREPLACE fails.
func mapAt(addr mem.Addr, size mem.Bytes, prot, fixed int) (mem.Addr, error) {
	p, err := unix.MmapPtr(-1, 0, pointer(addr), uintptr(size), prot, unix.MAP_PRIVATE|unix.MAP_ANON|noReserve|fixed)
	return mem.Addr(p), err
}

// reserveAt uses MAP_FIXED_NOREPLACE, which fails where something is. Kernels before 4.17 take the
// address for a wish and may place the mapping elsewhere.
func reserveAt(addr mem.Addr, size mem.Bytes) error {
	p, err := mapAt(addr, size, unix.PROT_NONE, unix.MAP_FIXED_NOREPLACE)
	if err != nil {
		return err
	}
	if p != addr {
		release(p, size)
		return unix.EEXIST
	}
	unlock(addr, size)
	return nil
}

// Where the program has called mlockall(MCL_FUTURE), new mappings are locked: a reservation that
// becomes accessible would be filled with memory at once, the whole of it. So a reservation is
// unlocked, and what is committed of it is locked as it is touched.

// locked says that the process locks its new mappings. lockRefused is the first error of a lock.
var (
	locked      atomic.Bool
	lockRefused atomic.Pointer[unix.Errno]
)

// unlock ends the lock of a new reservation if there is one. A locked mapping can be recognised by
// the refusal to give up its memory; a reservation has none.
func unlock(addr mem.Addr, size mem.Bytes) {
	if unix.Madvise(bytes(addr, systemPage), unix.MADV_DONTNEED) == unix.EINVAL {
		locked.Store(true)
		_ = unix.Munlock(bytes(addr, size))
	}
}

// lockTouched locks a range that was committed: each page when it is touched first.
func lockTouched(addr mem.Addr, size mem.Bytes) {
	if !locked.Load() {
		return
	}
	if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(addr), uintptr(size), unix.MLOCK_ONFAULT); errno != 0 {
		lockRefused.CompareAndSwap(nil, &errno)
	}
}

// LockRefused returns why memory could not be locked although the process locks its new mappings
// (mlockall with MCL_FUTURE), or nil.
func LockRefused() error {
	if e := lockRefused.Load(); e != nil {
		return *e
	}
	return nil
}

func commitPinned(addr mem.Addr, size mem.Bytes) error {
	_, _, errno := unix.RawSyscall(unix.SYS_MPROTECT, uintptr(addr), uintptr(size), unix.PROT_READ|unix.PROT_WRITE)
	if errno != 0 {
		return errno
	}
	if locked.Load() {
		if _, _, errno := unix.RawSyscall(unix.SYS_MLOCK2, uintptr(addr), uintptr(size), unix.MLOCK_ONFAULT); errno != 0 {
			lockRefused.CompareAndSwap(nil, &errno)
		}
	}
	return nil
}

// uncommit maps the range anew: a mapping that may be written keeps its charge when it is protected.
func uncommit(addr mem.Addr, size mem.Bytes, readable bool) error {
	prot := unix.PROT_NONE
	if readable {
		prot = unix.PROT_READ
	}
	_, err := mapAt(addr, size, prot, unix.MAP_FIXED)
	return err
}

// strictCommit opens the file anew each time, since the setting may change.
func strictCommit() bool {
	b, err := readFile("/proc/sys/vm/overcommit_memory", make([]byte, settingRoom))
	return err == nil && len(b) > 0 && b[0] == '2'
}

func leaveOutOfDumps(addr mem.Addr, size mem.Bytes) {
	_ = unix.Madvise(bytes(addr, size), unix.MADV_DONTDUMP)
}

// addressSpaceLeft is RLIMIT_AS minus the address space that the process has according to /proc.
func addressSpaceLeft() mem.Bytes {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &lim) != nil || lim.Cur >= math.MaxInt64 {
		return math.MaxUint
	}
	pages, _, _ := statm()
	used := pages * uint64(systemPage)
	if used >= lim.Cur {
		return 0
	}
	return mem.Bytes(lim.Cur - used)
}

func setName(addr mem.Addr, size mem.Bytes, name string) {
	b := append([]byte(name), 0)
	// Kernels before 5.17, or without CONFIG_ANON_VMA_NAME, refuse this, which does no harm.
	// unix.Prctl is not used, because only a call of assembly keeps b where it is.
	_, _, _ = unix.Syscall6(unix.SYS_PRCTL, unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, uintptr(addr), uintptr(size), uintptr(unsafe.Pointer(&b[0])), 0)
}
