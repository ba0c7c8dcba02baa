package osmem

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// openFile opens the file at path, which ends in a 0, for reading.
func openFile(path *byte) (fd uintptr, err error) {
	dir := unix.AT_FDCWD // a variable: the constant is negative
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(path)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return fd, nil
}

// readFile reads the beginning of a small file into room, all of it if that is large enough. It makes
// the system calls itself because measuring memory should not use more of it: unix.Open copies its
// path to Go's heap, and under the race detector unix.Read moves its buffer there. os.ReadFile makes
// ten system calls for a file besides, most of them to wait for it, which such files do not need.
func readFile(path string, room []byte) ([]byte, error) {
	var name [96]byte
	if copy(name[:len(name)-1], path) < len(path) {
		return nil, unix.ENAMETOOLONG
	}
	fd, err := openFile(&name[0])
	if err != nil {
		return nil, err
	}
	n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(room))), uintptr(len(room)))
	_, _, _ = unix.Syscall(unix.SYS_CLOSE, fd, 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return room[:n], nil
}

func hugePages(addr mem.Addr, size mem.Bytes, want bool) error {
	advice := unix.MADV_NOHUGEPAGE
	if want {
		advice = unix.MADV_HUGEPAGE
	}
	return do(OpAdvise, func() error { return unix.Madvise(bytes(addr, size), advice) })
}

func collapse(addr mem.Addr, size mem.Bytes) error {
	return do(OpAdvise, func() error { return unix.Madvise(bytes(addr, size), unix.MADV_COLLAPSE) })
}

// hugePageSettings has a file with the setting for all sizes of huge pages, and since Linux 6.8 a
// directory for each size with one of its own.
const hugePageSettings = "/sys/kernel/mm/transparent_hugepage/"

// hugePageFiles are the files with the settings of single sizes: the powers of two from two OS pages to
// the largest one, as far as the kernel has them. nil: not known yet. A kernel's sizes do not change.
var hugePageFiles atomic.Pointer[[]string]

// settingRoom is more than a setting's words take.
const settingRoom = 128

func hugePageMode() string {
	var room [settingRoom]byte
	all, err := readFile(hugePageSettings+"enabled", room[:])
	if err != nil {
		if _, err := readFile("/sys/kernel/mm", room[:]); errors.Is(err, unix.EISDIR) {
			return ""
		}
		return "unknown"
	}
	modes := []string{chosen(string(all))}
	look := func(file string) bool {
		one, err := readFile(file, room[:])
		if err == nil {
			modes = append(modes, chosen(string(one)))
		}
		return err == nil
	}
	if files := hugePageFiles.Load(); files != nil {
		for _, file := range *files {
			look(file)
		}
		return widest(modes)
	}
	there := []string{}
	for size := 2 * systemPage; size <= largestHugePage(); size *= 2 {
		file := hugePageSettings + "hugepages-" + strconv.FormatUint(uint64(size>>10), 10) + "kB/enabled"
		if look(file) {
			there = append(there, file)
		}
	}
	hugePageFiles.Store(&there)
	return widest(modes)
}

// widest returns the mode that allows most of those of single sizes, modes[1:]. "inherit" among
// them stands for modes[0], the one for all sizes. Without any, modes[0] is the answer.
func widest(modes []string) string {
	if len(modes) == 1 {
		return modes[0]
	}
	mode := "never"
	for _, m := range modes[1:] {
		if m == "inherit" {
			m = modes[0]
		}
		if m == "always" || m == "madvise" && mode == "never" {
			mode = m
		}
	}
	return mode
}

func hugePageSize() mem.Bytes { return largestHugePage() }

var largestHugePage = sync.OnceValue(func() mem.Bytes {
	b, err := readFile(hugePageSettings+"hpage_pmd_size", make([]byte, settingRoom))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 63)
	return mem.Bytes(n)
})

// chosen returns the word in brackets of a list like "always [madvise] never".
func chosen(list string) string {
	_, rest, _ := strings.Cut(list, "[")
	word, _, ok := strings.Cut(rest, "]")
	if !ok {
		return ""
	}
	return word
}

func residentBytes() (uint64, bool) {
	_, pages, ok := statm()
	return pages * uint64(systemPage), ok
}

// statm returns the pages of address space that the process has and those that are resident.
func statm() (size, resident uint64, ok bool) {
	var room [128]byte // the file has seven numbers; the first two always fit
	line, err := readFile("/proc/self/statm", room[:])
	if err != nil {
		return 0, 0, false
	}
	return parseStatm(line)
}

// parseStatm reads the first two numbers of a line; both end in a space.
func parseStatm(line []byte) (size, resident uint64, ok bool) {
	var fields [2]uint64
	for i := range fields {
		end := 0
		for end < len(line) && line[end] >= '0' && line[end] <= '9' {
			fields[i] = fields[i]*10 + uint64(line[end]-'0')
			end++
		}
		if end == 0 || end == len(line) || line[end] != ' ' {
			return 0, 0, false
		}
		line = line[end+1:]
	}
	return fields[0], fields[1], true
}
