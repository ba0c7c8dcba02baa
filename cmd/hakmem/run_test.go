package main

import (
	"bytes"
	"context"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// atOutput calls a function when something is written to it.
type atOutput func()

func (f atOutput) Write(text []byte) (int, error) {
	f()
	return len(text), nil
}

// TestRunInterrupted: an interrupt reaches the program that a verb runs, and how it ends then is passed on.
func TestRunInterrupted(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("skipped: no sh: ", err)
	}
	if runtime.GOOS == "windows" {
		t.Skip("skipped: no interrupts from another process")
	}
	file := writePolicy(t, time.Minute, 4)
	for _, test := range []struct {
		name, shell string
		status      int
	}{
		{"it ends in order", `trap 'exit 5' INT; echo ready; while :; do sleep 0.01; done`, 5},
		{"it ends at once", `echo ready; while :; do sleep 0.01; done`, exitFailed},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		var errs bytes.Buffer
		status := run(ctx, []string{"hakmem", "policy", "import", file, "--", "sh", "-c", test.shell}, atOutput(interrupt), &errs)
		if status != test.status || !strings.Contains(errs.String(), "sh: ") {
			t.Errorf("%s: status %d, want %d; %q", test.name, status, test.status, errs.String())
		}
		interrupt()
	}
}
