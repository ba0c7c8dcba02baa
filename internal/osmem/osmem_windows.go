package osmem

import (
	"time"

	"fmt"
	"io/fs"
	"math"
	"unsafe"

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

// release releases every reservation in the range: VirtualFree takes one at a time.
func release(addr mem.Addr, size mem.Bytes) {
	for end := addr + mem.Addr(size); addr < end; {
		base := addr
		for addr < end { // its pages may have several states
			var q windows.MemoryBasicInformation
			if windows.VirtualQuery(uintptr(addr), &q, unsafe.Sizeof(q)) != nil {
				return
			}
			if addr != base && mem.Addr(q.AllocationBase) != base {
				break
			}
			addr = mem.Addr(q.BaseAddress + q.RegionSize)
		}
		_ = windows.VirtualFree(uintptr(base), 0, windows.MEM_RELEASE)
	}
}

func reserveAt(addr mem.Addr, size mem.Bytes) error {
	_, err := windows.VirtualAlloc(uintptr(addr), uintptr(size), windows.MEM_RESERVE, windows.PAGE_NOACCESS)
	if err == windows.ERROR_INVALID_ADDRESS { // something is there, or no process has such addresses
		err = fmt.Errorf("%w: %w", fs.ErrExist, err)
	}
	return err
}

// LockRefused is nil: VirtualLock has no form that concerns later mappings.
func LockRefused() error { return nil }

func makeReadable(addr mem.Addr, size mem.Bytes) error { return nil } // see ReadableReserve

func commit(addr mem.Addr, size mem.Bytes) error {
	return pieces(addr, size, func(addr mem.Addr, size mem.Bytes) error {
		_, err := windows.VirtualAlloc(uintptr(addr), uintptr(size), windows.MEM_COMMIT, windows.PAGE_READWRITE)
		return err
	})
}

func withdraw(addr mem.Addr, size mem.Bytes) error {
	return pieces(addr, size, func(addr mem.Addr, size mem.Bytes) error {
		return windows.VirtualFree(uintptr(addr), uintptr(size), windows.MEM_DECOMMIT)
	})
}

// discard decommits and commits again: the pages come back as zero on demand. (MEM_RESET and
// DiscardVirtualMemory keep the pages committed, but do not promise that they are zero then.)
// Between the two calls another process may take the memory that the system can still commit. After
// a failed withdraw some pieces may be decommitted.
func discard(addr mem.Addr, size mem.Bytes) error {
	err := withdraw(addr, size)
	if err := commit(addr, size); err != nil {
		return fmt.Errorf("%w: %w", ErrDecommitted, err)
	}
	return err
}

// pieces calls f for the range. If that fails, it calls f for the parts of the range in which all
// pages have the same state and belong to the same reservation: Windows refuses a range that extends
// over two reservations, though they are neighbours.
func pieces(addr mem.Addr, size mem.Bytes, f func(mem.Addr, mem.Bytes) error) error {
	err := f(addr, size)
	if err == nil {
		return nil
	}
	for first := true; size > 0; first = false {
		var q windows.MemoryBasicInformation
		if windows.VirtualQuery(uintptr(addr), &q, unsafe.Sizeof(q)) != nil {
			return err
		}
		n := min(mem.Bytes(q.BaseAddress+q.RegionSize-uintptr(addr)), size)
		if first && n == size {
			return err
		}
		if err := f(addr, n); err != nil {
			return err
		}
		addr += mem.Addr(n)
		size -= n
	}
	return nil
}

func addressSpaceLeft() mem.Bytes { return math.MaxUint }

func uncommit(addr mem.Addr, size mem.Bytes, readable bool) error { return withdraw(addr, size) }

func strictCommit() bool { return false }

func commitPinned(addr mem.Addr, size mem.Bytes) error { return commit(addr, size) }

func setName(addr mem.Addr, size mem.Bytes, name string) {} // Windows has no such listing

func processCPU() time.Duration {
	var created, exited, system, user windows.Filetime
	if windows.GetProcessTimes(windows.CurrentProcess(), &created, &exited, &system, &user) != nil {
		return 0
	}
	return fileTime(system) + fileTime(user)
}

// fileTime returns the time that Windows counts in units of 100 ns.
func fileTime(t windows.Filetime) time.Duration {
	return 100 * time.Duration(uint64(t.HighDateTime)<<32|uint64(t.LowDateTime))
}

func processFaults() (minor, major uint64) { return 0, 0 } // Windows has one number for both kinds
