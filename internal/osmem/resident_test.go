package osmem

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
)

func TestOpString(t *testing.T) {
	for op, want := range map[Op]string{
		OpReserve: "reserve", OpCommit: "commit", OpDiscard: "discard", OpResident: "resident", OpAdvise: "advise", OpMove: "move", OpPopulate: "populate",
	} {
		if got := op.String(); got != want {
			t.Errorf("op %d is %q, want %q", op, got, want)
		}
	}
	if numOps != 7 {
		t.Errorf("%d ops, of which the table above has 7", numOps)
	}
}

// TestFailedReserve checks that a failed Reserve returns no address, which a caller might keep.
func TestFailedReserve(t *testing.T) {
	failures := Failed()
	addr, err := Reserve(1 << 62) // more than any processor can address
	if addr != 0 || err == nil {
		t.Errorf("Reserve = %#x, %v", addr, err)
	}
	if n := Failed() - failures; n != 1 {
		t.Errorf("%d failures counted, want 1", n)
	}
}

// TestNotSupported checks that on systems other than Linux no system call is made.
func TestNotSupported(t *testing.T) {
	if runtime.GOOS == "linux" {
		t.Skip("skipped: Linux supports all of it")
	}
	asked := Calls(OpResident) + Calls(OpAdvise) + Calls(OpPopulate)
	if pages, err := look(0, 1<<20); pages != 0 || !errors.Is(err, ErrNotSupported) {
		t.Errorf("a look: %d, %v", pages, err)
	}
	if err := HugePages(0, 1<<20, true); err != nil {
		t.Errorf("HugePages = %v", err)
	}
	if err := Collapse(0, 2<<20); !errors.Is(err, ErrNotSupported) {
		t.Errorf("Collapse = %v", err)
	}
	if err := Populate(0, 1<<20); !CannotPopulate(err) {
		t.Errorf("Populate = %v", err)
	}
	if got := Calls(OpResident) + Calls(OpAdvise) + Calls(OpPopulate); got != asked {
		t.Errorf("%d calls counted", got-asked)
	}
	bytes, ok := ResidentBytes()
	if got, want := fmt.Sprint(HugePageMode(), bytes, ok), fmt.Sprint("", 0, false); got != want {
		t.Errorf("mode and resident bytes are %s, want %s", got, want)
	}
}
