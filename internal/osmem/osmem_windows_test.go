package osmem

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/windows"
)

// neighbours reserves n ranges of size bytes, each directly behind the one before.
func neighbours(t *testing.T, n int, size mem.Bytes) mem.Addr {
	t.Helper()
	for range 100 { // another thread may take the address space
		whole, err := Reserve(mem.Bytes(n) * size)
		if err != nil {
			t.Fatal(err)
		}
		Release(whole, mem.Bytes(n)*size)
		got := 0
		for ; got < n; got++ {
			if _, err := windows.VirtualAlloc(uintptr(whole)+uintptr(got)*uintptr(size), uintptr(size), windows.MEM_RESERVE, windows.PAGE_NOACCESS); err != nil {
				break
			}
		}
		if got == n {
			return whole
		}
		for got--; got >= 0; got-- {
			_ = windows.VirtualFree(uintptr(whole)+uintptr(got)*uintptr(size), 0, windows.MEM_RELEASE)
		}
	}
	t.Skip("skipped: no neighbouring reservations could be had")
	return 0
}

// TestNeighbours: a range may extend over several reservations, whatever the state of its pages.
func TestNeighbours(t *testing.T) {
	const size = 1 * mib
	addr := neighbours(t, 3, size)
	from, n := addr+mem.Addr(size/2), mem.Bytes(2*size) // half of the first, and half of the last
	b := bytes(from, n)
	for range 2 {
		if err := Commit(from+mem.Addr(size/4), size/4); err != nil { // the first ends committed
			t.Fatal(err)
		}
		for range 2 {
			if err := Commit(from, n); err != nil {
				t.Fatal(err)
			}
		}
		for i := mem.Bytes(0); i < n; i += PageSize() {
			if b[i] != 0 {
				t.Fatalf("committed byte %d is %d", i, b[i])
			}
			b[i] = 1
		}
		if err := Discard(from, n); err != nil {
			t.Fatal(err)
		}
		for i := mem.Bytes(0); i < n; i += PageSize() {
			if b[i] != 0 {
				t.Fatalf("discarded byte %d is %d", i, b[i])
			}
			b[i] = 1
		}
		if err := Withdraw(from, n); err != nil {
			t.Fatal(err)
		}
		for i := mem.Bytes(0); i < n; i += size / 4 {
			if q := query(t, from+mem.Addr(i)); q.State != windows.MEM_RESERVE {
				t.Errorf("withdrawn byte %d has the state %#x", i, q.State)
			}
		}
	}
	Release(addr, 3*size)
	for i := range mem.Addr(3) {
		if q := query(t, addr+i*size); q.State != memFree {
			t.Errorf("released reservation %d has the state %#x", i, q.State)
		}
	}
	if err := Commit(from, n); err == nil {
		t.Error("released memory was committed")
	}
}

const memFree = 0x10000 // MEM_FREE

func query(t *testing.T, addr mem.Addr) (q windows.MemoryBasicInformation) {
	t.Helper()
	if err := windows.VirtualQuery(uintptr(addr), &q, unsafe.Sizeof(q)); err != nil {
		t.Fatal(err)
	}
	return q
}

// TestPageOfCommit: what is committed, discarded and withdrawn is pages of the system's size (4 KiB),
// though reservations begin at a multiple of 64 KiB.
func TestPageOfCommit(t *testing.T) {
	page := PageSize()
	addr, err := Reserve(64 << 10)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr, 64<<10)
	if addr%(64<<10) != 0 {
		t.Errorf("a reservation at %#x", uint64(addr))
	}
	states := func() (s string) {
		for i := range mem.Addr(5) {
			if query(t, addr+i*mem.Addr(page)).State == windows.MEM_COMMIT {
				s += "c"
			} else {
				s += "-"
			}
		}
		return s
	}
	for _, step := range []struct {
		call func(mem.Addr, mem.Bytes) error
		page mem.Addr
		n    mem.Bytes
		want string
	}{
		{Commit, 1, 3, "-ccc-"},
		{Discard, 2, 1, "-ccc-"},
		{Withdraw, 2, 1, "-c-c-"},
		{Discard, 1, 1, "-c-c-"},
		{Commit, 0, 4, "cccc-"},
		{Withdraw, 0, 5, "-----"},
	} {
		if err := step.call(addr+step.page*mem.Addr(page), step.n*page); err != nil {
			t.Fatal(err)
		}
		if got := states(); got != step.want {
			t.Errorf("%+v: pages %s, want %s", step, got, step.want)
		}
	}
}

// TestDiscardRefused: memory that the system does not let the process commit again is reported as
// decommitted, and only then.
func TestDiscardRefused(t *testing.T) {
	addr, err := Reserve(64 << 10)
	if err != nil {
		t.Fatal(err)
	}
	Release(addr, 64<<10)
	if err := Discard(addr, 64<<10); !errors.Is(err, ErrDecommitted) {
		t.Errorf("Discard of memory that is gone: %v", err)
	}
	if err := Discard(addr+1, 64<<10); err == nil || errors.Is(err, ErrDecommitted) {
		t.Errorf("Discard of a range that is not aligned: %v", err)
	}
}
