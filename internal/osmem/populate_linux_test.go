package osmem

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPopulate: all pages of the range have memory afterwards and no others, the contents stay, and an
// injected refusal gives memory to none.
func TestPopulate(t *testing.T) {
	needsLook(t)
	const n = 64
	addr, area := smallPages(t, n)
	area[3*pageSize] = 7
	if err := Populate(addr.Add(2*pageSize), 10*pageSize); err != nil {
		if CannotPopulate(err) {
			t.Skip("skipped: ", err)
		}
		t.Fatal(err)
	}
	if pages, err := look(addr, n*pageSize); err != nil || pages != 10 {
		t.Errorf("%d pages have memory, want 10; %v", pages, err)
	}
	for i, b := range area {
		if b != 0 && i != 3*int(pageSize) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	if area[3*pageSize] != 7 {
		t.Error("what was written is gone")
	}
	addr, _ = smallPages(t, n)
	defer Inject(nil)
	Inject(func(Op) error { return fmt.Errorf("%w: %w", ErrInjected, unix.ENOMEM) })
	err := Populate(addr, n*pageSize)
	Inject(nil)
	if pages, _ := look(addr, n*pageSize); pages != 0 || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("after a refusal, %v, %d pages have memory", err, pages)
	}
}

// TestCannotPopulate: which errors are about the system, and which are about the range.
func TestCannotPopulate(t *testing.T) {
	for err, want := range map[error]bool{
		unix.EINVAL: true, unix.ENOSYS: true, unix.EPERM: true, unix.EACCES: true, ErrNotSupported: true,
		unix.ENOMEM: false, unix.EFAULT: false, unix.EHWPOISON: false, unix.EAGAIN: false, ErrInjected: false,
	} {
		if CannotPopulate(fmt.Errorf("wrapped: %w", err)) != want {
			t.Errorf("%v: want %t", err, want)
		}
	}
}

// TestCollapse: a range becomes a huge page that has what was written, and a refusal leaves it as it is.
func TestCollapse(t *testing.T) {
	needsLook(t)
	size := HugePageSize()
	if size == 0 || size > 32<<20 {
		t.Skipf("skipped: huge pages of %d bytes", size)
	}
	from, err := Reserve(3 * size)
	if err == nil {
		t.Cleanup(func() { Release(from, 3*size) })
		err = Commit(from, 3*size)
	}
	if err != nil {
		t.Fatal(err)
	}
	addr := from.Up(size)
	bytes(addr, size)[5*pageSize] = 9
	defer Inject(nil)
	Inject(func(Op) error { return ErrInjected })
	failures := Failed()
	if err := Collapse(addr, size); !errors.Is(err, ErrInjected) || Failed() != failures+1 {
		t.Errorf("Collapse = %v", err)
	}
	Inject(nil)
	calls := Calls(OpAdvise)
	if err := Collapse(addr, size); err != nil {
		t.Skip("skipped: ", err)
	}
	var l Look
	if err := BeginLook(&l); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n, known := l.Resident(addr, size); !known || n != size || Calls(OpAdvise) != calls+1 {
		t.Errorf("%d bytes are resident (known: %t), %d calls counted", n, known, Calls(OpAdvise)-calls)
	}
	if bytes(addr, size)[5*pageSize] != 9 || bytes(addr, size)[0] != 0 {
		t.Error("the contents have changed")
	}
}
