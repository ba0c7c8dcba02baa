package osmem

import (
	"errors"
	"testing"
)

const mib = 1 << 20

// TestLifeOfARange follows the states of the package comment.
func TestLifeOfARange(t *testing.T) {
	addr, err := Reserve(64*mib, true)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr, 64*mib)
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

func TestInject(t *testing.T) {
	defer Inject(nil)
	Inject(func(op Op) error {
		if op == OpCommit {
			return ErrInjected
		}
		return nil
	})
	addr, err := Reserve(mib, false)
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
