package main

import (
	"runtime"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	status, out, _ := hakmemCommand("version")
	if status != 0 || !strings.HasPrefix(out, "hakmem ") || !strings.Contains(out, ", bench ") || !strings.Contains(out, ", cmd/hakmem ") || !strings.Contains(out, runtime.Version()) {
		t.Errorf("status %d: %q", status, out)
	}
}
