package osmem

import (
	"fmt"
	"math"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/windows"
)

// ReadableReserve is false: on Windows a reserved range cannot be read, and read-only committed
// memory would be charged to the process.
const ReadableReserve = false

func reserve(size mem.Bytes) (mem.Addr, error) {
	addr, err := windows.VirtualAlloc(0, uintptr(size), windows.MEM_RESERVE, windows.PAGE_NOACCESS)
	return mem.Addr(addr), err
}

func release(addr mem.Addr, size mem.Bytes) {
	_ = windows.VirtualFree(uintptr(addr), 0, windows.MEM_RELEASE)
}

func reserveAt(addr mem.Addr, size mem.Bytes) error { return ErrNoChoice }

// LockRefused is nil: VirtualLock has no form that concerns later mappings.
func LockRefused() error { return nil }

func makeReadable(addr mem.Addr, size mem.Bytes) error { return nil } // see ReadableReserve

func commit(addr mem.Addr, size mem.Bytes) error {
	_, err := windows.VirtualAlloc(uintptr(addr), uintptr(size), windows.MEM_COMMIT, windows.PAGE_READWRITE)
	return err
}

func withdraw(addr mem.Addr, size mem.Bytes) error {
	return windows.VirtualFree(uintptr(addr), uintptr(size), windows.MEM_DECOMMIT)
}

// discard decommits and commits again: the pages come back as zero on demand. Between the two calls
// another process may take the memory that the system can still commit.
func discard(addr mem.Addr, size mem.Bytes) error {
	if err := windows.VirtualFree(uintptr(addr), uintptr(size), windows.MEM_DECOMMIT); err != nil {
		return err
	}
	if err := commit(addr, size); err != nil {
		return fmt.Errorf("%w: %w", ErrDecommitted, err)
	}
	return nil
}

func addressSpaceLeft() mem.Bytes { return math.MaxUint }

func uncommit(addr mem.Addr, size mem.Bytes, readable bool) error { return withdraw(addr, size) }

func strictCommit() bool { return false }

func setName(addr mem.Addr, size mem.Bytes, name string) {} // Windows has no such listing

func processFaults() (minor, major uint64) { return 0, 0 } // Windows has one number for both kinds
