package osmem

import (
	"math"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// noReserve keeps a reservation out of the system's accounting of memory and swap.
const noReserve = unix.MAP_NORESERVE

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
