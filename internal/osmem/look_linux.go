package osmem

import (
	"encoding/binary"
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// canLook: see Look.
const canLook = true

// lookWay is how a look asks. Each way costs more than the one before it (docs/ledger.md, "What a scrape
// costs").
type lookWay uint8

const (
	// byMincore asks mincore, which answers with a byte for each OS page. It takes a page that is
	// swapped out and still in the system's cache for memory, so it is asked only where nothing
	// is swapped out. systemd's @system-service does not have it, and a filter of system calls may kill
	// for it, so it is asked only where no filter is in force.
	byMincore lookWay = iota
	// byScan asks PAGEMAP_SCAN, an ioctl of /proc/self/pagemap since Linux 6.7. It answers with runs.
	byScan
	// byPagemap reads /proc/self/pagemap, which has 8 bytes for each OS page.
	byPagemap
	numWays
)

// belief is what is known of a way.
type belief = uint32

const (
	untried  belief = iota
	believed        // a probe of it went right
	denied          // the system does not have it, or it does not tell the truth
)

// beliefs says which ways are believed. What was denied is not tried again. byPagemap never is
// denied for good, because it is the last one.
var beliefs [numWays]atomic.Uint32

// lookRoom is the room for the system's answers: 4 KiB, since mincore itself works in such pieces.
const lookRoom = 4096

// lookState is how a look stands with the system.
type lookState struct {
	way  lookWay
	file bool // fd is open
	fd   uintptr
	// room has the last answer, as the way gives it: n bytes of mincore, n entries of pagemap or n
	// pageRegions. i is the first that is not used yet, which for the first two is the page at l.at.
	room [lookRoom / 8]uint64
	i, n int
}

// pageRegion is the kernel's struct page_region.
type pageRegion struct {
	start, end mem.Addr
	_          uint64 // categories: those that scan asks for
}

// pmScanArg is the kernel's struct pm_scan_arg (include/uapi/linux/fs.h). vec is a pointer there, too:
// as an address it would be wrong when the goroutine's stack moves.
type pmScanArg struct {
	size, flags         uint64
	start, end, walkEnd mem.Addr
	vec                 *pageRegion
	vecLen, maxPages    uint64
	inverted, mask      uint64
	anyOf, result       uint64
}

const (
	// pagemapScan is PAGEMAP_SCAN, _IOWR('f', 16, struct pm_scan_arg).
	pagemapScan = 3<<30 | uintptr(unsafe.Sizeof(pmScanArg{}))<<16 | 'f'<<8 | 16
	// pageIsPresent is PAGE_IS_PRESENT.
	pageIsPresent = 1 << 3
)

var pagemapPath = [...]byte{'/', 'p', 'r', 'o', 'c', '/', 's', 'e', 'l', 'f', '/', 'p', 'a', 'g', 'e', 'm', 'a', 'p', 0}

// begin and what it calls make the system calls of a look themselves, for the reason of readFile.
func (l *Look) begin() error { return l.choose(byMincore) }

// choose takes the first way from w on that the system has, and that tells the truth.
func (l *Look) choose(w lookWay) error {
	for ; w < numWays; w++ {
		is := beliefs[w].Load()
		if is == denied || !l.has(w) {
			continue
		}
		if is == untried {
			is = tryWay(w, l.fd)
		}
		if is == believed {
			beliefs[w].Store(believed)
			l.way = w
			return nil
		}
		if w != byPagemap {
			beliefs[w].Store(is)
		}
	}
	return ErrNotSupported
}

// has reports whether way w may be tried now. It opens its file.
func (l *Look) has(w lookWay) bool {
	if w == byMincore {
		return !filtered() && !swapped()
	}
	if !l.file {
		fd, err := openFile(&pagemapPath[0])
		l.fd, l.file = fd, err == nil
	}
	return l.file
}

// swapped reports whether anything of the machine's memory is swapped out.
func swapped() bool {
	var info unix.Sysinfo_t
	return unix.Sysinfo(&info) != nil || info.Totalswap != info.Freeswap
}

// filtered reports whether a filter of system calls may be in force for the calling thread: see
// discardBatch.
func filtered() bool {
	mode, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_GET_SECCOMP, 0, 0, 0, 0, 0)
	return errno != 0 || mode != 0
}

// probePages makes an accident improbable: of consecutive pages in the other byte order, each low
// part of a page's number is somewhere.
const probePages = 16

// tryWay tries whether way w tells the truth of memory that was never touched, and of memory
// that was touched just now. Under an emulator it may speak of another process's addresses, or in
// another byte order than the program's, or say that everything has memory.
func tryWay(w lookWay, fd uintptr) belief {
	size := probePages * systemPage
	// Nobody may touch it at first: a process that locks its mappings would fill it.
	addr, err := mapAt(0, size, unix.PROT_NONE, 0)
	if err != nil {
		return untried
	}
	defer release(addr, size)
	l := Look{open: true, lookState: lookState{way: w, fd: fd}}
	if resident, err := l.count(addr, size); err != nil || resident != 0 {
		return denied
	}
	if unix.Mprotect(bytes(addr, size), unix.PROT_READ|unix.PROT_WRITE) != nil {
		return untried
	}
	for p := mem.Bytes(0); p < size; p += systemPage {
		bytes(addr, size)[p] = 1
	}
	if resident, err := l.count(addr, size); err != nil || resident != size {
		return denied
	}
	if w == byPagemap && !plausible(l.room[:probePages]) {
		return denied
	}
	return believed
}

// count returns how much of a range has memory by the look's own way, with one system call.
func (l *Look) count(addr mem.Addr, size mem.Bytes) (n mem.Bytes, err error) {
	l.Over(addr, size)
	if err := l.by(l.way); err != nil {
		return 0, err
	}
	for l.take() {
		n += l.Run.Size
	}
	return n, nil
}

// plausible reports whether entries can be those of pages that were touched just now.
func plausible(entries []uint64) bool {
	for _, e := range entries {
		if e&pagemapBits != pagemapPresent {
			return false
		}
	}
	return true
}

// The bits of an entry: the page has memory; it is swapped out; two that are always 0 (the Linux
// kernel's Documentation/admin-guide/mm/pagemap.rst).
const (
	pagemapPresent = 1 << 63
	pagemapBits    = pagemapPresent | 1<<62 | 1<<60 | 1<<59
)

// fill asks for what follows at l.at. If the look's way fails, it goes on by the next one: the program
// may have set a filter since.
func (l *Look) fill() error {
	for {
		err := l.by(l.way)
		if err == nil || l.way == byPagemap {
			return err
		}
		if l.way == byScan {
			beliefs[byScan].Store(denied)
		}
		if err := l.choose(l.way + 1); err != nil {
			return err
		}
	}
}

// by asks by way w for what follows at l.at, as much as there is room for.
func (l *Look) by(w lookWay) error {
	pages := int(l.end.From(l.at) / systemPage)
	l.empty()
	switch w {
	case byMincore:
		return l.mincore(min(pages, lookRoom))
	case byScan:
		return l.scan()
	default:
		return l.read(min(pages, len(l.room)))
	}
}

// mincore asks for pages OS pages, on a thread that has no filter.
func (l *Look) mincore(pages int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if filtered() {
		return ErrNotSupported
	}
	size := uintptr(pages) * uintptr(systemPage)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(l.at), size, uintptr(unsafe.Pointer(&l.room))); errno != 0 {
		return ErrNotSupported
	}
	l.n = pages
	return nil
}

// scan asks for runs up to the end of the range.
func (l *Look) scan() error {
	arg := pmScanArg{
		size: uint64(unsafe.Sizeof(pmScanArg{})), start: l.at, end: l.end,
		vec: &l.regions()[0], vecLen: uint64(len(l.regions())), mask: pageIsPresent, result: pageIsPresent,
	}
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, l.fd, pagemapScan, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 || n > uintptr(len(l.regions())) || arg.walkEnd <= l.at {
		return ErrNotSupported
	}
	l.n, l.at = int(n), arg.walkEnd
	return nil
}

// regions is room as byScan uses it.
func (l *Look) regions() *[lookRoom / unsafe.Sizeof(pageRegion{})]pageRegion {
	return (*[lookRoom / unsafe.Sizeof(pageRegion{})]pageRegion)(unsafe.Pointer(&l.room))
}

// read reads the file's entries, of 8 bytes each, for pages OS pages.
func (l *Look) read(pages int) error {
	const entry = unsafe.Sizeof(l.room[0])
	size := uintptr(pages) * entry
	at := uintptr(l.at) / uintptr(systemPage) * entry
	n, _, errno := unix.Syscall6(unix.SYS_PREAD64, l.fd, uintptr(unsafe.Pointer(&l.room)), size, at, 0, 0)
	if errno != 0 || n != size {
		return ErrNotSupported
	}
	l.n = pages
	return nil
}

// take makes the next run in room the look's, and reports whether there is one.
func (l *Look) take() bool {
	if l.way == byScan {
		if l.i == l.n {
			return false
		}
		r := l.regions()[l.i]
		l.i++
		l.Run = Range{Addr: r.start, Size: r.end.From(r.start)}
		return true
	}
	first := l.until(l.i, true)
	after := l.until(first, false)
	from := l.at.Add(mem.Bytes(first-l.i) * systemPage)
	l.Run = Range{Addr: from, Size: mem.Bytes(after-first) * systemPage}
	l.at = l.at.Add(mem.Bytes(after-l.i) * systemPage)
	l.i = after
	return l.Run.Size > 0
}

// until returns the first page from i on in room that has memory, or that has none; n if there is none.
func (l *Look) until(i int, memory bool) int {
	if l.way == byPagemap {
		for i < l.n && l.room[i]&pagemapPresent != 0 != memory {
			i++
		}
		return i
	}
	// Eight pages at a time. mincore says it by the lowest bit of a byte; the others are reserved.
	const lowest = 0x0101010101010101
	vec := (*[lookRoom]byte)(unsafe.Pointer(&l.room))[:]
	for i < l.n {
		at := i &^ 7
		word := binary.LittleEndian.Uint64(vec[at:])
		if !memory {
			word = ^word
		}
		if word = word & lowest >> (8 * (i - at)) << (8 * (i - at)); word != 0 {
			return min(at+bits.TrailingZeros64(word)/8, l.n)
		}
		i = at + 8
	}
	return l.n
}

// empty forgets what room has.
func (l *Look) empty() { l.i, l.n = 0, 0 }

// done closes the file.
func (l *Look) done() {
	if l.file {
		_, _, _ = unix.Syscall(unix.SYS_CLOSE, l.fd, 0, 0)
		l.file = false
	}
}
