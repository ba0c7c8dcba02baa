package osmem

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"os"
	"strings"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

var errNoScratch = errors.New("osmem: Resident needs scratch memory")

func resident(addr mem.Addr, size mem.Bytes, vec []byte) (int, error) {
	if len(vec) == 0 {
		return 0, errNoScratch
	}
	pageSize := systemPage
	pages := 0
	for left := size.Up(pageSize) / pageSize; left > 0; {
		n := min(left, mem.Bytes(len(vec)))
		err := do(OpResident, func() error {
			// In this form it is a call of assembly, so that vec need not be in Go's heap.
			_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(addr), uintptr(n*pageSize), uintptr(unsafe.Pointer(&vec[0])))
			if errno != 0 {
				return errno
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		pages += countLow(vec[:n])
		addr += mem.Addr(n * pageSize)
		left -= n
	}
	return pages, nil
}

// countLow counts the bytes whose lowest bit is set: the other bits are reserved. It reads eight at a
// time, since most of a large range is seldom resident.
func countLow(v []byte) (n int) {
	for ; len(v) >= 8; v = v[8:] {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(v) & 0x0101010101010101)
	}
	for _, b := range v {
		n += int(b & 1)
	}
	return n
}

func hugePages(addr mem.Addr, size mem.Bytes, want bool) error {
	advice := unix.MADV_NOHUGEPAGE
	if want {
		advice = unix.MADV_HUGEPAGE
	}
	return do(OpAdvise, func() error { return unix.Madvise(bytes(addr, size), advice) })
}

func hugePageMode() string {
	b, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil {
		return ""
	}
	return chosen(string(b))
}

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

var statmPath = [...]byte{'/', 'p', 'r', 'o', 'c', '/', 's', 'e', 'l', 'f', '/', 's', 't', 'a', 't', 'm', 0}

// statm returns the pages of address space that the process has and those that are resident. It
// makes the system calls itself because measuring memory should not use more of it: unix.Open
// copies its path to Go's heap, and under the race detector unix.Read moves its buffer there.
func statm() (size, resident uint64, ok bool) {
	dir := unix.AT_FDCWD // a variable: the constant is negative
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&statmPath[0])), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return 0, 0, false
	}
	defer unix.Close(int(fd))
	var line [128]byte // the file has seven numbers; the first two always fit
	n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&line[0])), uintptr(len(line)))
	if errno != 0 {
		return 0, 0, false
	}
	return parseStatm(line[:n])
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
