package osmem

import (
	"errors"
	"runtime"

	"github.com/hakmem/hakmem/internal/mem"
)

// ErrNotSupported is returned by Resident where residency is not known: everywhere except on Linux.
var ErrNotSupported = errors.New("osmem: resident pages cannot be counted on " + runtime.GOOS)

// Resident returns how many OS pages (os.Getpagesize) of [addr, addr+size) have memory behind them.
// addr is a multiple of the page, size is rounded up to one. vec is scratch space of at least one
// byte. Each system call covers len(vec) pages and is counted as one call. Resident allocates
// nothing itself.
//
// A huge page counts as the OS pages that it covers. A page that was read but never written counts
// too, although all such pages share one page of zeroes. A page that was swapped out does not
// count. If other goroutines touch or discard the range meanwhile, each page is counted as it was
// at some moment of the call. After an error the result is 0.
func Resident(addr mem.Addr, size mem.Bytes, vec []byte) (pages int, err error) {
	return resident(addr, size, vec)
}

// HugePages allows huge pages in a committed range, where HugePageMode is "madvise" or "always", or
// forbids them. It changes no memory that exists: the kernel uses the permission at the next fault
// or in its scan. After an error a part of the range may be changed; the memory is usable in any
// case.
//
// Linux refuses the call where HugePageMode is "", which does no harm. Other systems have no such
// call: HugePages returns nil there and counts nothing.
func HugePages(addr mem.Addr, size mem.Bytes, want bool) error { return hugePages(addr, size, want) }

// HugePageMode returns the system's setting for huge pages as it is now: "always", "madvise" (where
// HugePages allows them), or "never". Where the sizes of huge pages have settings of their own, it
// is the one that allows most. It is "" where there is no such setting: on a kernel without it, and
// on systems other than Linux. It is "unknown" on Linux if the process cannot see the system's
// settings. It reads some small files, about one for each size.
func HugePageMode() string { return hugePageMode() }

// HugePageSize returns the size of the largest huge page that HugePageMode is about, in bytes, or 0
// where that is not known. It reads a file, once.
func HugePageSize() mem.Bytes { return hugePageSize() }

// ProcessFaults returns the page faults of the process so far: minor ones, which needed no reading
// from a device, and major ones, which did. On Windows both are 0.
func ProcessFaults() (minor, major uint64) { return processFaults() }

// ResidentBytes returns the resident memory of the whole process, including Go's heap and all code.
// It returns false where that is not known: on systems other than Linux, and without /proc. The
// kernel's number may be out of date by some dozen pages for each processor. ResidentBytes
// allocates no Go memory.
func ResidentBytes() (uint64, bool) { return residentBytes() }
