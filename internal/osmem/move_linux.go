package osmem

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// mremap calls the system call of that name for a range that keeps its size.
func mremap(from mem.Addr, size mem.Bytes, flags uintptr, to mem.Addr) (at mem.Addr, err error) {
	err = do(OpMove, func() error {
		p, _, errno := unix.Syscall6(unix.SYS_MREMAP, uintptr(from), uintptr(size), uintptr(size), flags, uintptr(to), 0)
		if errno != 0 {
			return errno
		}
		at = mem.Addr(p)
		return nil
	})
	return at, err
}

// canMove reports whether this system leaves a range mapped whose memory it moved: Linux does since
// 5.7. It tries that once, on memory of its own. An emulator may take the flag for another one, and
// then believe that the range is gone; it refuses it as the place for a result.
var canMove = sync.OnceValue(func() bool {
	const size = 64 << 10 // a multiple of every system's page
	from, err := reserve(size)
	if err != nil {
		return false
	}
	defer release(from, size)
	if commit(from, size) != nil {
		return false
	}
	b := bytes(from, size)
	b[0] = 1
	p, _, errno := unix.Syscall6(unix.SYS_MREMAP, uintptr(from), size, size, unix.MREMAP_MAYMOVE|unix.MREMAP_DONTUNMAP, 0, 0)
	if errno != 0 {
		return false
	}
	defer release(mem.Addr(p), size)
	_, _, errno = unix.Syscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&b[8])), 0)
	return errno == 0 && b[0] == 0 && bytes(mem.Addr(p), size)[0] == 1
})

// move goes by way of an address that the system chooses. A call that names a place unmaps what is
// there before it looks at what is to be moved; if it then failed, the place would be a hole in the
// region, which another thread of the process could take. The first call here names no place, and
// fails if something is in its way. What it leaves is one mapping, which the second call can move.
func move(from, to mem.Addr, size mem.Bytes) error {
	if !canMove() {
		return ErrCannotMove
	}
	at, err := mremap(from, size, unix.MREMAP_MAYMOVE|unix.MREMAP_DONTUNMAP, 0)
	if err != nil {
		return err
	}
	if _, err = mremap(at, size, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to); err == nil {
		return nil
	}
	// The process may have reached the most mappings that it may have. Nothing was unmapped then. The
	// memory goes back to where it was, by copying: that place has room for it.
	for off := mem.Bytes(0); off < size; {
		step := min(size-off, moveBackStep)
		copy(bytes(from.Add(off), step), bytes(at.Add(off), step))
		release(at.Add(off), step)
		off += step
	}
	if e := mapAgain(to, size); e != nil {
		err = errors.Join(err, e)
	}
	return err
}

// moveBackStep is how much memory is there twice while it is copied back: 2 MiB, of which copying
// takes a hundred times as long as the system call.
const moveBackStep = 2 << 20

// mapAgain maps a range that a failed call may have unmapped. If it is mapped, nothing happens.
func mapAgain(addr mem.Addr, size mem.Bytes) error {
	_, err := mapAt(addr, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED_NOREPLACE)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("mapping a range again: %w", err)
	}
	return nil
}
