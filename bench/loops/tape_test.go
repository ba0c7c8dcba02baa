package loops

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/trace"
)

// TestTape counts by hand: 6 operations a round, which leave 2 blocks. They are freed after each
// round except the last.
func TestTape(t *testing.T) {
	r, err := trace.NewReader("recorded", strings.NewReader("hakmem trace 1\na 0 1 100\na 0 2 70000\nf 0 1\nr 0 3 90000 2\nr 0 4 20 3\na 0 5 8\n"))
	if err != nil {
		t.Fatal(err)
	}
	tape, err := trace.Compile(r, trace.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := Params{Rounds: 3, Threads: tape.Threads, Tape: filepath.Join(t.TempDir(), "tape")}
	if err := tape.Save(p.Tape); err != nil {
		t.Fatal(err)
	}
	var s shared
	if err := loadTape(&p, &s); err != nil {
		t.Fatal(err)
	}
	if n, promised := s.tape.timed(3), TapeOps(tape, 3); n != 3*6+2*2 || n != promised {
		t.Errorf("%d operations, %d promised, want 22", n, promised)
	}
	if p.Max != 90000 || !slices.Equal(s.tape.olds[0], []uint64{70000, 90000}) {
		t.Errorf("largest %d, sizes before reallocs %v", p.Max, s.tape.olds)
	}
}
