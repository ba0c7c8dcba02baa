package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hakmem/hakmem/bench/loops"
)

func TestCountCalls(t *testing.T) {
	begin, end := loops.Marks()
	file := filepath.Join(t.TempDir(), "calls")
	for _, c := range []struct {
		text string
		want uint64
		ok   bool
	}{
		{"1 mmap(0, 1) = 2\n1 madvise(" + begin + ", 0, MADV_NORMAL) = 0\n2 mmap(0 <unfinished ...>\n1 brk(0) = 1\n2 <... mmap resumed>) = 0\n1 madvise(" + end + ", 0, 0) = 0\n1 munmap(0, 1) = 0\n", 2, true},
		{"1 madvise(" + begin + ", 0, MADV_NORMAL) = 0\n1 madvise(" + end + ", 0, 0) = 0\n", 0, true},
		{"1 mmap(0, 1) = 2\n", 0, false},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o666); err != nil {
			t.Fatal(err)
		}
		if n, err := countCalls(file); n != c.want || (err == nil) != c.ok {
			t.Errorf("%q: %d calls, %v", c.text, n, err)
		}
	}
}
