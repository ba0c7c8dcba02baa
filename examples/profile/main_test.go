package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/hakmempprof"
)

func TestMain(m *testing.M) {
	if err := configure(64 << 10); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestProfile: the tool names the function that allocates what is lost, and no other.
func TestProfile(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if err := run(&out, dir, 100_000); errors.Is(err, hakmempprof.ErrOff) {
		t.Skipf("skipped: this build has no profile: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
	args := strings.Fields(command)
	if out, err := exec.Command("go", "tool", "pprof", "-h").CombinedOutput(); !bytes.Contains(out, []byte("-top")) {
		t.Skipf("skipped: go tool pprof does not work: %v: %.200s", err, out)
	}
	top, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, top)
	}
	for _, line := range strings.Split(string(top), "\n") {
		if f := strings.Fields(line); len(f) > 1 && strings.HasSuffix(f[len(f)-1], "main.reads") || strings.HasSuffix(line, "profile.reads") {
			if f[1] != "100%" {
				t.Errorf("the function that loses its blocks has %s of what is held:\n%s", f[1], top)
			}
			return
		}
	}
	t.Errorf("the function that loses its blocks is missing:\n%s", top)
}

// TestLeaks: the list names the function whose blocks are lost, and no other.
func TestLeaks(t *testing.T) {
	var out bytes.Buffer
	if err := list(&out, 100_000); errors.Is(err, hakmempprof.ErrOff) {
		t.Skipf("skipped: this build has no profile: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.HasPrefix(text, "hakmem: live: ") || !strings.Contains(text, ".reads\n") || !strings.Contains(text, "the newest: ") || strings.Contains(text, ".renders\n") {
		t.Errorf("not what is lost:\n%s", text)
	}
}
