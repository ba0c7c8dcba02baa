package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRecordAndReplay records this program's verb stats, summarizes the trace, and replays it.
func TestRecordAndReplay(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asProgram, "1")
	file := filepath.Join(t.TempDir(), "stats.trace")
	status, _, errs := hakmemCommand("record", "-o", file, "--", program, "stats", "--json")
	if status != 0 || !strings.Contains(errs, "calls recorded") {
		t.Fatalf("status %d: %s", status, errs)
	}
	status, out, errs := hakmemCommand("replay", file, "--stats")
	if status != 0 || !strings.Contains(out, "malloc") || !strings.Contains(out, "1000") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	status, out, errs = hakmemCommand("replay", "--runs", "1", "--alloc", "hakmem,hakmem-heap,go,modernc", file)
	if status != 0 || !strings.Contains(out, "operations in") || !strings.Contains(out, "modernc") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	status, out, errs = hakmemCommand("replay", "--runs", "1", "--json", "--peer", "mine=/none/such.so", file)
	if status != 0 || !strings.Contains(out, `"mine"`) {
		t.Errorf("a peer that was added: status %d: %s%s", status, out, errs)
	}
	status, out, errs = hakmemCommand("replay", "--verify", "--alloc", "hakmem,pool", file)
	if status != 0 || strings.Count(out, "blocks checked") != 2 {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	if err := os.WriteFile(file, []byte("hakmem trace 1\na 0 1 16\nf 0 x y\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := hakmemCommand("replay", file); status != exitFailed || !strings.Contains(errs, "stats.trace:3") {
		t.Errorf("a malformed line: status %d: %s", status, errs)
	}
}
