package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestProgress checks the bar as a terminal receives it.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, 2)
	p.doing("a")
	if out.Len() > 0 {
		t.Errorf("%q written where there is no terminal", out.String())
	}
	p.out = &out
	p.step()
	p.doing("b")
	p.close()
	if got := out.String(); !strings.Contains(got, "############............] 1/2 b") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("the bar is %q", got)
	}
}
