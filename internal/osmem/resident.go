package osmem

import (
	"errors"
	"runtime"

	"github.com/hakmem/hakmem/internal/mem"
)

// ErrNotSupported is returned by Resident where it cannot tell: everywhere but
// on Linux.
var ErrNotSupported = errors.New("osmem: resident pages cannot be counted on " + runtime.GOOS)

// Resident returns how many system pages (os.Getpagesize) of [addr, addr+size)
// have memory behind them. addr is a multiple of the page, size is rounded up to
// one. vec is scratch of at least one byte: each system call looks at len(vec)
// pages and is counted as one. Resident allocates nothing itself.
//
// A huge page counts as the system pages it covers. A page that was read but
// never written counts too, though all such pages share one page of zeroes; one
// that was swapped out does not. While others touch or discard the range, each
// page is as it was at some moment of the call. After an error the result is 0.
func Resident(addr mem.Addr, size mem.Bytes, vec []byte) (pages int, err error) {
	return resident(addr, size, vec)
}

// HugePages allows huge pages in a committed range, where HugePageMode is
// "madvise" or "always", or forbids them. It changes no memory that is there:
// what it allows is used at the next fault or by the kernel's scan. After an
// error a part of the range may be changed; the memory is usable in any case.
//
// Linux refuses it where HugePageMode is "", and nothing is lost by that.
// Elsewhere there is no such call: nil, not counted.
func HugePages(addr mem.Addr, size mem.Bytes, want bool) error { return hugePages(addr, size, want) }

// HugePageMode returns the system's setting for huge pages as it is now:
// "always", "madvise" (where HugePages allows them), or "never". It is "" where
// there is no such setting: a kernel without it, and other systems than Linux.
// It reads a file.
func HugePageMode() string { return hugePageMode() }

// ProcessFaults returns how many page faults the process has had that needed no
// reading from a device, and that did. Zeros on Windows.
func ProcessFaults() (minor, major uint64) { return processFaults() }

// ResidentBytes returns the memory of the whole process that is resident, with
// Go's heap and all code, or false where that is not known: elsewhere than on
// Linux, and without /proc. The kernel may lag behind by some dozen pages for
// each processor. It allocates no Go memory.
func ResidentBytes() (uint64, bool) { return residentBytes() }
