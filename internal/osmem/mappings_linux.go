package osmem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mappings counts the process's mappings and reads how many it may have. Like readFile it makes the
// system calls itself.
func mappings() (have, most int, ok bool) {
	maps, limit := []byte("/proc/self/maps\x00"), []byte("/proc/sys/vm/max_map_count\x00")
	ok = readWhole(limit, func(part []byte) {
		for _, c := range part {
			if c >= '0' && c <= '9' {
				most = most*10 + int(c-'0')
			}
		}
	}) && readWhole(maps, func(part []byte) {
		for _, c := range part {
			if c == '\n' {
				have++
			}
		}
	})
	return have, most, ok && most > 0
}

// readWhole calls use with all parts of the file, whose path ends in a zero byte. It reports whether
// the file could be read.
func readWhole(path []byte, use func(part []byte)) bool {
	fd, err := openFile(&path[0])
	if err != nil {
		return false
	}
	defer unix.Close(int(fd))
	part := make([]byte, 4096) // the kernel gives no more than a page of such a file at a time
	for {
		n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)))
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return false
		case n == 0:
			return true
		default:
			use(part[:n])
		}
	}
}
