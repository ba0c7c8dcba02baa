package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
)

// TestLive starts the program, asks for its page, and ends it.
func TestLive(t *testing.T) {
	hakmemtest.NoLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out, in := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int)
	go func() { ended <- start(ctx, []string{"-addr", "127.0.0.1:0", "-trim"}, in, &stderr) }()
	text := make([]byte, 1000)
	n, err := out.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	page := regexp.MustCompile(`http://\S+/debug/hakmem/`).FindString(string(text[:n]))
	for part, want := range map[string]string{"": "<h1>", "stats": "cache values"} {
		r, err := http.Get(page + part)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s%s: %v, %.200s, want %q", page, part, err, got, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if status := <-ended; status != 0 || stderr.Len() > 0 {
		t.Errorf("status %d, %s", status, &stderr)
	}
}

// TestBadFlags: what makes no sense is named.
func TestBadFlags(t *testing.T) {
	for line, want := range map[string]int{"-addr": 2, "-port=1": 2, "more": 2, "-addr=nowhere": 1, "-help": 0} {
		var out, errs bytes.Buffer
		if got := start(context.Background(), []string{line}, &out, &errs); got != want || errs.Len() == 0 {
			t.Errorf("%s: status %d, want %d: %s", line, got, want, &errs)
		}
	}
}

// TestWork: each part of the server has blocks, no part grows for ever, and all are freed in the end.
func TestWork(t *testing.T) {
	was := alive()
	w := newWork(1)
	defer func() {
		w.close()
		if n := alive(); n != was {
			t.Errorf("%d blocks are alive after close, %d were before", n, was)
		}
	}()
	var peaks [3][2]int // of each part, in each cycle
	for i := range 2 * cycle {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
		for part, b := range []*blocks{&w.sessions, &w.values, &w.uploads} {
			peaks[part][i/cycle] = max(peaks[part][i/cycle], len(b.held))
		}
	}
	for part, p := range peaks {
		if p[0] == 0 || p[1] > p[0]+p[0]/4 {
			t.Errorf("part %d had %d blocks at most in the first cycle, %d in the second", part, p[0], p[1])
		}
	}
}

func alive() uint64 {
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	return s.LiveBlocks
}
