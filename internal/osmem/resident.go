package osmem

import (
	"time"

	"errors"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
)

// ErrNotSupported is returned by looks where it cannot be known which pages have memory: on systems
// other than Linux, and where Linux refuses to say it. That is no failure: what a look asks is for
// statistics. Renew and Populate return it on other systems.
var ErrNotSupported = errors.New("osmem: the system does not do this, or does not tell which pages are resident")

// Look is one look at which OS pages of the process have memory behind them. Its zero value is
// closed. It belongs to one goroutine.
//
// Linux tells by the file /proc/self/pagemap, which is open during a look. mincore would tell it
// too, but the filters of system calls that services run under do not have it: systemd's
// @system-service has openat, pread64 and close.
type Look struct {
	fd   uintptr
	open bool
}

// BeginLook opens the look, or returns ErrNotSupported. The first look tries on memory of its own
// whether the file tells the truth, which it need not under an emulator. After a refusal some calls, 1, 3, 7 and so on up
// to looksSkipped, return that without a system call. The caller closes the look.
func BeginLook(l *Look) error {
	if !canLook {
		return ErrNotSupported
	}
	if looks.skip.Load() > 0 {
		looks.skip.Add(-1)
		return ErrNotSupported
	}
	if err := ask(OpResident, func() error { return l.begin() }); err != nil {
		return looks.refused()
	}
	looks.penalty.Store(0)
	return nil
}

// looks says how often BeginLook is to do without a system call: skip is how many times more, penalty
// how many there were after the last refusal.
var looks lookCounts

type lookCounts struct{ skip, penalty atomic.Int32 }

// looksSkipped is the most calls of BeginLook without a system call. The scavenger, which looks at most
// once in a tick of 55 ms, then tries about once a minute.
const looksSkipped = 1023

func (c *lookCounts) refused() error {
	n := min(2*c.penalty.Load()+1, looksSkipped)
	c.penalty.Store(n)
	c.skip.Store(n)
	return ErrNotSupported
}

// Resident tells for each OS page (os.Getpagesize) of [addr, addr+size) whether it has memory behind
// it, by the top bit of its entry. addr is a multiple of the page, size is rounded up to one, and
// entries has room for the pages. Resident returns the entries and how many pages have memory. It
// makes one system call and allocates no Go memory. After an error, which is ErrNotSupported, the
// look is over.
//
// A huge page counts as the OS pages that it covers. A page that was read but never written counts
// too, although all such pages share one page of zeroes. A page that was swapped out does not
// count. If other goroutines touch or discard the range meanwhile, each page is counted as it was
// at some moment of the call.
func (l *Look) Resident(addr mem.Addr, size mem.Bytes, entries []uint64) (_ []uint64, pages int, err error) {
	if !l.open {
		return nil, 0, ErrNotSupported
	}
	entries = entries[:(size+systemPage-1)/systemPage]
	if len(entries) == 0 {
		return entries, 0, nil
	}
	if err := ask(OpResident, func() error { return l.read(addr, entries) }); err != nil {
		l.Close()
		return nil, 0, looks.refused()
	}
	for _, e := range entries {
		pages += int(e >> 63)
	}
	return entries, pages, nil
}

// Close ends the look.
func (l *Look) Close() {
	if l.open {
		l.open = false
		l.end()
	}
}

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
