//go:build linux || darwin || freebsd

package osmem

import (
	"time"

	"errors"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

func reserve(size mem.Bytes) (mem.Addr, error) {
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|noReserve)
	if err != nil {
		return 0, err
	}
	unlock(mem.Addr(p), size)
	return mem.Addr(p), nil
}

func release(addr mem.Addr, size mem.Bytes) { _ = unix.MunmapPtr(pointer(addr), uintptr(size)) }

func makeReadable(addr mem.Addr, size mem.Bytes) error {
	if !ReadableReserve {
		return nil
	}
	if err := unix.Mprotect(bytes(addr, size), unix.PROT_READ); err != nil {
		return err
	}
	leaveOutOfDumps(addr, size)
	return nil
}

// withdraw makes the range fault also where its memory could not be returned.
func withdraw(addr mem.Addr, size mem.Bytes) error {
	return errors.Join(discard(addr, size), unix.Mprotect(bytes(addr, size), unix.PROT_NONE))
}

func commit(addr mem.Addr, size mem.Bytes) error {
	if err := unix.Mprotect(bytes(addr, size), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	lockTouched(addr, size)
	return nil
}

func processFaults() (minor, major uint64) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil { // no documented reason for this exists
		return 0, 0
	}
	return uint64(u.Minflt), uint64(u.Majflt)
}

func processCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
