//go:build !hakmem_check

package check

import (
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A Mutex of any rank is a sync.Mutex: it has its size, and the same code locks it.
var _ *sync.Mutex = (*Mutex[Shard])(nil)

func TestOff(t *testing.T) {
	var m Mutex[Region]
	if On || !Held(&m) {
		t.Errorf("On is %v and Held %v, want false, true", On, Held(&m))
	}
	called := 0
	if n := testing.AllocsPerRun(100, func() { // none of these calls is in order
		Leave()
		Enter()
		Enter()
		MustNotBeEntered("test")
		MayLock(&m)
		m.Lock()
		//lint:ignore SA2001 only the cost is of interest
		m.Unlock()
		Leave()
		MustBeEntered("test")
		MustHold(&m, "test")
		Exclusive(func() { called++ })
	}); n != 0 || called != 101 {
		t.Errorf("%v allocations and %d calls, want 0 and 101", n, called)
	}
}

// TestFree builds a program that uses everything in this package, from a package that does not
// import sync. Every call of this package must be inlined. Calls of sync.Mutex must be inlined
// where a program's own would be. No symbol of this package may be in the program.
func TestFree(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("skipped: no go command: ", err)
	}
	bin := filepath.Join(t.TempDir(), "off")
	run := func(args ...string) string {
		out, err := exec.Command("go", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	inlined := run("build", "-gcflags=-m", "-o", bin, "./testdata/off")
	for _, f := range []string{
		"sync.(*Mutex).Lock", "sync.(*Mutex).TryLock", "sync.(*Mutex).Unlock",
		"check.Enter", "check.Leave", "check.MustBeEntered", "check.MustNotBeEntered",
		"check.MayLock", "check.MustHold", "check.Exclusive",
	} {
		if !hasLine(inlined, "main.go:", "inlining call to "+f) {
			t.Errorf("%s is not inlined into the program:\n%s", f, inlined)
		}
	}
	for _, line := range strings.Split(run("tool", "nm", bin), "\n") {
		if strings.Contains(line, "internal/check.") {
			t.Errorf("the program has a symbol of this package: %s", line)
		}
	}
}

// hasLine reports whether a line of text contains in and ends with end.
func hasLine(text, in, end string) bool {
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, in) && strings.HasSuffix(line, end) {
			return true
		}
	}
	return false
}
