package osmem

import (
	"errors"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// movable returns two committed ranges of size bytes that are no neighbours. The first has the
// number of each OS page in its first byte, counted from 1; the second is all 7.
func movable(t *testing.T, size mem.Bytes) (from, to mem.Addr) {
	t.Helper()
	if !canMove() {
		t.Skip("skipped: this kernel does not move memory (Linux before 5.7, or an emulator)")
	}
	all, err := Reserve(4 * size)
	if err == nil {
		t.Cleanup(func() { Release(all, 4*size) })
		err = Commit(all, 4*size)
	}
	if err != nil {
		t.Fatal(err)
	}
	from, to = all, all.Add(2*size)
	for i := mem.Bytes(0); i < size; i += pageSize {
		bytes(from, size)[i] = byte(i/pageSize) + 1
		bytes(to, size)[i] = 7
	}
	return from, to
}

// mustHaveMoved wants the marks of movable at to, and zeroes at from, where memory can be used.
func mustHaveMoved(t *testing.T, from, to mem.Addr, size mem.Bytes) {
	t.Helper()
	for i := mem.Bytes(0); i < size; i += pageSize {
		if got, left := bytes(to, size)[i], bytes(from, size)[i]; got != byte(i/pageSize)+1 || left != 0 {
			t.Fatalf("page %d: %d arrived, %d stayed", i/pageSize, got, left)
		}
	}
	bytes(from, size)[0] = 1
	bytes(from, size)[0] = 0
}

func TestMove(t *testing.T) {
	const size = 1 * mib
	from, to := movable(t, size)
	before, ok := ResidentBytes()
	if err := Move(from, to, size); err != nil {
		t.Fatal(err)
	}
	after, _ := ResidentBytes() // before anything is read, which may take memory
	mustHaveMoved(t, from, to, size)
	if ok && after > before+size/2 {
		t.Errorf("%d bytes resident before, %d after", before, after)
	}
	if err := Move(to, from, size); err != nil { // and back
		t.Fatal(err)
	}
	mustHaveMoved(t, to, from, size)
}

// TestMoveOfTwoMappings: a range of two mappings is refused, and nothing changes.
func TestMoveOfTwoMappings(t *testing.T) {
	const size = 1 * mib
	from, to := movable(t, size)
	if err := unix.Madvise(bytes(from+size/2, size/2), unix.MADV_DONTFORK); err != nil {
		t.Fatal(err)
	}
	if err := Move(from, to, size); !errors.Is(err, unix.EFAULT) {
		t.Errorf("Move = %v", err)
	}
	for i := mem.Bytes(0); i < size; i += pageSize {
		if got, there := bytes(to, size)[i], bytes(from, size)[i]; got != 7 || there != byte(i/pageSize)+1 {
			t.Fatalf("page %d: %d at the place, %d of the range", i/pageSize, got, there)
		}
	}
}

// TestMoveRefused: whichever call fails, the range is as it was, and the place can be used.
func TestMoveRefused(t *testing.T) {
	const size = 5 * mib // more than is copied back at a time
	for nth := 1; nth <= 2; nth++ {
		from, to := movable(t, size)
		n := 0
		Inject(func(op Op) error {
			if n++; op == OpMove && n == nth {
				return ErrInjected
			}
			return nil
		})
		err := Move(from, to, size)
		Inject(nil)
		if !errors.Is(err, ErrInjected) {
			t.Errorf("call %d refused: Move = %v", nth, err)
		}
		for i := mem.Bytes(0); i < size; i += pageSize {
			if there := bytes(from, size)[i]; there != byte(i/pageSize)+1 {
				t.Fatalf("call %d refused: page %d has %d", nth, i/pageSize, there)
			}
			bytes(to, size)[i] = 1
		}
	}
}
