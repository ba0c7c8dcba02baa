package leak_test

import (
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/leak"
)

//go:noinline
func stackOfMine(depth int) []uintptr {
	if depth > 0 {
		return stackOfMine(depth - 1)
	}
	pcs := make([]uintptr, 20)
	return pcs[:runtime.Callers(1, pcs)]
}

// TestText: a stack is two lines for each function, without those in which every goroutine ends.
func TestText(t *testing.T) {
	stack := stackOfMine(1)
	text := leak.StackText(stack, "unknown")
	if n := strings.Count(text, "leak_test.stackOfMine\n"); n != 2 || strings.Count(text, "\n") != 6 || !strings.Contains(text, "leak_test.go:") {
		t.Errorf("the stack is\n%s", text)
	}
	if strings.Contains(text, "tRunner") || strings.Contains(text, "goexit") {
		t.Errorf("the ends of a goroutine are in\n%s", text)
	}
	if text := leak.StackText(nil, "unknown"); text != "    unknown\n" || leak.Frames(nil) != nil {
		t.Errorf("no stack is %q", text)
	}
	last := stack[len(stack)-1:] // the end alone is shown: there is nothing else
	if text := leak.StackText(last, ""); !strings.Contains(text, "goexit") {
		t.Errorf("the end alone is %q", text)
	}
}

// TestKey: equal stacks have equal keys, and no others have.
func TestKey(t *testing.T) {
	stacks := [][]uintptr{nil, {0}, {1}, {1, 2}, {2, 1}, {1 << 40}}
	for i, a := range stacks {
		for j, b := range stacks {
			if (leak.Key(a) == leak.Key(b)) != (i == j) {
				t.Errorf("%v and %v", a, b)
			}
		}
	}
}

func TestCount(t *testing.T) {
	if got := leak.Count(1, 48); got != "1 block of 48 bytes" {
		t.Error(got)
	}
	if got := leak.Count(2, 96); got != "2 blocks of 96 bytes together" {
		t.Error(got)
	}
}

// TestWalk: the walk comes to a live block once.
func TestWalk(t *testing.T) {
	if !engine.CheckLive {
		t.Skip("skipped: this build does not keep live state (hakmem_nolive)")
	}
	var blocks []unsafe.Pointer
	for _, size := range []uintptr{1, 3000, 100_000, 3 << 20} {
		blocks = append(blocks, hakmem.Malloc(size))
	}
	for i, p := range blocks {
		if n := times(p); n != 1 {
			t.Errorf("block %d comes %d times", i, n)
		}
		hakmem.Free(p)
		if n := times(p); n != 0 {
			t.Errorf("block %d was freed and comes %d times", i, n)
		}
	}
}

func times(p unsafe.Pointer) (n int) {
	leak.Walk(func(b *engine.LiveBlock) {
		if uintptr(b.Addr) == uintptr(p) {
			n++
		}
	})
	return n
}
