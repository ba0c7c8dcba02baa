package cache

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
)

//go:noinline
func drop(t *testing.T, n int) {
	for range n {
		c, err := New(Options{MaxBytes: 1 << 20, OnEvict: func(_, _ []byte, _ Reason) { panic("called") }})
		if err != nil {
			t.Fatal(err)
		}
		fill(c, 100)
	}
}

// TestDropped: caches that are dropped are freed, counted, and the first one is reported. One that was closed is
// not.
func TestDropped(t *testing.T) {
	hakmemtest.NoLeaks(t)
	const n = 3
	before := Abandoned()
	drop(t, n)
	closed, err := New(Options{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for end := time.Now().Add(time.Minute); Abandoned() < before+n; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Now().After(end) {
			t.Fatalf("%d caches were found to be dropped, want %d", Abandoned()-before, n)
		}
	}
	runtime.GC()
	if got := Abandoned() - before; got != n {
		t.Errorf("%d dropped, want %d", got, n)
	}
	if err := hakmem.Err(); before == 0 && (err == nil || !strings.Contains(err.Error(), "cache.drop (") || !strings.Contains(err.Error(), "dropped without Close")) {
		t.Errorf("Err says %v", err)
	}
}
