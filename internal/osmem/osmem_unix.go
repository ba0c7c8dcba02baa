//go:build linux || darwin || freebsd

package osmem

import "golang.org/x/sys/unix"

func reserve(size uintptr, readable bool) (uintptr, error) {
	prot := unix.PROT_NONE
	if readable && ReadableReserve {
		prot = unix.PROT_READ
	}
	p, err := unix.MmapPtr(-1, 0, nil, size, prot, unix.MAP_PRIVATE|unix.MAP_ANON|noReserve)
	return uintptr(p), err
}

func release(addr, size uintptr) { _ = unix.MunmapPtr(pointer(addr), size) }

func makeReadable(addr, size uintptr) error {
	if !ReadableReserve {
		return nil
	}
	return unix.Mprotect(bytes(addr, size), unix.PROT_READ)
}

func withdraw(addr, size uintptr) error {
	if err := discard(addr, size); err != nil {
		return err
	}
	return unix.Mprotect(bytes(addr, size), unix.PROT_NONE)
}

func commit(addr, size uintptr) error {
	return unix.Mprotect(bytes(addr, size), unix.PROT_READ|unix.PROT_WRITE)
}

func processFaults() (minor, major uint64) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil { // not by any documented way
		return 0, 0
	}
	return uint64(u.Minflt), uint64(u.Majflt)
}
