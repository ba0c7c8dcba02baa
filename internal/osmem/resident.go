package osmem

import (
	"errors"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
)

// ErrNotSupported is returned by looks where it cannot be known which pages have memory: on systems
// other than Linux, and where Linux refuses to say it. That is no failure: what a look asks is for
// statistics. Renew and Populate return it on other systems.
var ErrNotSupported = errors.New("osmem: the system does not do this, or does not tell which pages are resident")

// HugePages allows huge pages in a committed range, where HugePageMode is "madvise" or "always", or
// forbids them. It changes no memory that exists: the kernel uses the permission at the next fault
// or in its scan. After an error a part of the range may be changed; the memory is usable in any
// case.
//
// Linux refuses the call where HugePageMode is "", which does no harm. Other systems have no such
// call: HugePages returns nil there and counts nothing.
func HugePages(addr mem.Addr, size mem.Bytes, want bool) error { return hugePages(addr, size, want) }

// Collapse makes one huge page of each range of HugePageSize that lies in a committed range, which is whole such
// ranges, at once and whatever HugePageMode says. What has no memory there gets some; the contents stay, and
// others may use the range meanwhile. It fails where a range has the advice of HugePages against it, where the
// system has no huge page at hand, and on Linux before 6.1; the memory is usable in any case.
//
// Other systems have no such call: Collapse returns ErrNotSupported there and counts nothing.
func Collapse(addr mem.Addr, size mem.Bytes) error { return collapse(addr, size) }

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

// ProcessCPU returns the CPU time of the process so far, of the program and of the system on its behalf;
// 0 where it is not known.
func ProcessCPU() time.Duration { return processCPU() }

// ResidentBytes returns the resident memory of the whole process, including Go's heap and all code.
// It returns false where that is not known: on systems other than Linux, and without /proc. The
// kernel's number may be out of date by some dozen pages for each processor. ResidentBytes
// allocates no Go memory.
func ResidentBytes() (uint64, bool) { return residentBytes() }
