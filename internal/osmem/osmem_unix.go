//go:build linux || darwin || freebsd

package osmem

import (
	"errors"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

func reserve(size mem.Bytes, readable bool) (mem.Addr, error) {
	prot := unix.PROT_NONE
	if readable && ReadableReserve {
		prot = unix.PROT_READ
	}
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(size), prot, unix.MAP_PRIVATE|unix.MAP_ANON|noReserve)
	return mem.Addr(p), err
}

func release(addr mem.Addr, size mem.Bytes) { _ = unix.MunmapPtr(pointer(addr), uintptr(size)) }

func makeReadable(addr mem.Addr, size mem.Bytes) error {
	if !ReadableReserve {
		return nil
	}
	return unix.Mprotect(bytes(addr, size), unix.PROT_READ)
}

// withdraw makes the range fault also where its memory could not be returned.
func withdraw(addr mem.Addr, size mem.Bytes) error {
	return errors.Join(discard(addr, size), unix.Mprotect(bytes(addr, size), unix.PROT_NONE))
}

func commit(addr mem.Addr, size mem.Bytes) error {
	return unix.Mprotect(bytes(addr, size), unix.PROT_READ|unix.PROT_WRITE)
}

func processFaults() (minor, major uint64) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil { // no documented reason for this exists
		return 0, 0
	}
	return uint64(u.Minflt), uint64(u.Majflt)
}
