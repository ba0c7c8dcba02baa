package osmem

import (
	"fmt"
	"math"

	"golang.org/x/sys/windows"
)

// ReadableReserve is false: a reserved range of Windows cannot be read, and
// read-only committed memory would be charged. Package heap raises its bound
// with each commit instead.
const ReadableReserve = false

func reserve(size uintptr, readable bool) (uintptr, error) {
	return windows.VirtualAlloc(0, size, windows.MEM_RESERVE, windows.PAGE_NOACCESS)
}

func release(addr, size uintptr) { _ = windows.VirtualFree(addr, 0, windows.MEM_RELEASE) }

func makeReadable(addr, size uintptr) error { return nil } // see ReadableReserve

func commit(addr, size uintptr) error {
	_, err := windows.VirtualAlloc(addr, size, windows.MEM_COMMIT, windows.PAGE_READWRITE)
	return err
}

func withdraw(addr, size uintptr) error { return windows.VirtualFree(addr, size, windows.MEM_DECOMMIT) }

// discard decommits and commits again: the pages come back as zero on demand.
// In between another process may take what the system can commit.
func discard(addr, size uintptr) error {
	if err := windows.VirtualFree(addr, size, windows.MEM_DECOMMIT); err != nil {
		return err
	}
	if err := commit(addr, size); err != nil {
		return fmt.Errorf("%w: %w", ErrDecommitted, err)
	}
	return nil
}

func addressSpaceLeft() uintptr { return math.MaxUint }

func setName(addr, size uintptr, name string) {} // no such listing here

func processFaults() (minor, major uint64) { return 0, 0 } // one number there, of both kinds
