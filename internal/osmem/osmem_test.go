package osmem

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
)

const mib = 1 << 20

// TestLifeOfARange follows the states of the package comment.
func TestLifeOfARange(t *testing.T) {
	addr, err := Reserve(64 * mib)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr, 64*mib)
	if err := MakeReadable(addr+32*mib, 32*mib); err != nil {
		t.Fatal(err)
	}
	if ReadableReserve && bytes(addr, 64*mib)[63*mib] != 0 {
		t.Error("a readable reservation does not read as zero")
	}
	commits := Calls(OpCommit)
	if err := Commit(addr+mib, 2*mib); err != nil {
		t.Fatal(err)
	}
	b := bytes(addr+mib, 2*mib)
	for i := range b {
		if b[i] != 0 {
			t.Fatalf("committed byte %d is %d", i, b[i])
		}
		b[i] = 1
	}
	if err := Discard(addr+mib, mib); err != nil {
		t.Fatal(err)
	}
	if b[0] != 0 || b[mib-1] != 0 || b[mib] != 1 {
		t.Errorf("after the discard of the first half: %d, %d, %d", b[0], b[mib-1], b[mib])
	}
	b[0] = 2 // still committed
	if n := Calls(OpCommit) - commits; n != 1 {
		t.Errorf("%d commits counted, want 1", n)
	}
}

// TestReserveAt: a place is taken once, and another place near it is not.
func TestReserveAt(t *testing.T) {
	addr, err := Reserve(4 * mib)
	if err != nil {
		t.Fatal(err)
	}
	Release(addr, 4*mib)
	err = ReserveAt(addr+mib, mib)
	if errors.Is(err, ErrNoChoice) {
		t.Skip("skipped: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr+mib, mib)
	for _, r := range []Range{{addr + mib, mib}, {addr, 2 * mib}, {addr + 2*mib - 64<<10, mib}, {addr, 4 * mib}} {
		if err := ReserveAt(r.Addr, r.Size); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%d bytes at %#x: %v, though [%#x, +%d) is taken", r.Size, r.Addr, err, addr+mib, mib)
		}
	}
	if err := ReserveAt(addr+2*mib, mib); err != nil {
		t.Errorf("the place behind: %v", err)
	} else {
		Release(addr+2*mib, mib)
	}
	if err := Commit(addr+mib, mib); err != nil {
		t.Fatal(err)
	}
	bytes(addr+mib, mib)[mib-1] = 1
}

func TestInject(t *testing.T) {
	defer Inject(nil)
	Inject(func(op Op) error {
		if op == OpCommit {
			return ErrInjected
		}
		return nil
	})
	addr, err := Reserve(mib)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr, mib)
	calls, failures := Calls(OpCommit), Failed()
	if err := Commit(addr, mib); !errors.Is(err, ErrInjected) {
		t.Errorf("Commit = %v", err)
	}
	if Calls(OpCommit) != calls || Failed() != failures+1 {
		t.Errorf("an injected failure counts as %d calls, %d failures", Calls(OpCommit)-calls, Failed()-failures)
	}
	Inject(nil)
	if err := Commit(addr, mib); err != nil {
		t.Error(err)
	}
}

// TestDiscardMany discards every other page of a range, in one call or many. After an error the
// ranges before it are done and the others are not.
func TestDiscardMany(t *testing.T) {
	size := mem.Bytes(PageSize())
	const n = 3000 // more than one call takes
	addr, err := Reserve(roundUpTo(2*n*size, 64<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr, roundUpTo(2*n*size, 64<<10))
	if err := Commit(addr, 2*n*size); err != nil {
		t.Fatal(err)
	}
	b := bytes(addr, 2*n*size)
	var r []Range
	for i := range mem.Bytes(n) {
		r = append(r, Range{addr + mem.Addr(2*i*size), size})
	}
	check := func(done int) {
		t.Helper()
		for i := range mem.Bytes(n) {
			if was := b[2*i*size] != 0; was != (int(i) >= done) || b[(2*i+1)*size] != 1 {
				t.Fatalf("range %d of %d done: %d, and behind it %d", i, done, b[2*i*size], b[(2*i+1)*size])
			}
		}
	}
	fill := func() {
		for i := mem.Bytes(0); i < 2*n; i++ {
			b[i*size] = 1
		}
	}
	fill()
	for from := 0; from < n; from += MaxRanges {
		part := r[from:min(from+MaxRanges, n)]
		if done, err := DiscardMany(part); done != len(part) || err != nil {
			t.Fatalf("DiscardMany = %d, %v of %d", done, err, len(part))
		}
	}
	check(n)
	fill()
	bad := append(append([]Range{}, r[:3]...), Range{addr + 1, size}, r[4]) // not aligned
	if done, err := DiscardMany(bad); done != 3 || err == nil {
		t.Errorf("DiscardMany with a bad fourth range = %d, %v", done, err)
	}
	check(3)
	// The same without the system call for many ranges, if there is one.
	fill()
	if done, err := DiscardMany(r[:10]); done != 10 || err != nil {
		t.Errorf("DiscardMany = %d, %v", done, err)
	}
	check(10)
	defer Inject(nil)
	Inject(func(Op) error { return ErrInjected })
	if done, err := DiscardMany(r); done != 0 || !errors.Is(err, ErrInjected) {
		t.Errorf("DiscardMany = %d, %v", done, err)
	}
}

func roundUpTo(n, to mem.Bytes) mem.Bytes { return (n + to - 1) &^ (to - 1) }
