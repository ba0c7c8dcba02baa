package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/bench/trace"
	"github.com/hakmem/hakmem/internal/osmem"
)

// TestAddTimes: a time is in front of the lines that a look has found, and at the end.
func TestAddTimes(t *testing.T) {
	const text = "hakmem trace 1\na 0 1 16\nf 0 1\na 0 2 16\n" // lines begin at 0, 15, 24 and 30; it ends at 39
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		text  string
		grown []growth
		want  string
	}{
		{"a look at each line", text, []growth{{15, 1 * ms}, {24, 2 * ms}, {30, 3 * ms}, {39, 4 * ms}, {39, 9 * ms}},
			"hakmem trace 1\n# at 2\na 0 1 16\n# at 3\nf 0 1\n# at 4\na 0 2 16\n# at 9\n"},
		{"two looks", text, []growth{{24, 5 * ms}, {39, 70 * ms}}, "hakmem trace 1\n# at 5\na 0 1 16\n# at 70\nf 0 1\na 0 2 16\n# at 70\n"},
		{"only the last", text, []growth{{39, 1234567 * time.Microsecond}}, "hakmem trace 1\n# at 1234\na 0 1 16\nf 0 1\na 0 2 16\n# at 1234\n"},
		{"nothing", "", []growth{{0, 8 * ms}}, ""},
	} {
		file := filepath.Join(t.TempDir(), "plain")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		if err := addTimes(&got, file, c.grown); err != nil || got.String() != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, got.String(), err, c.want)
		}
	}
}

// TestRecordTimes: the trace of a program whose demand is known, with times, is that demand.
func TestRecordTimes(t *testing.T) {
	if _, ok := osmem.ResidentBytes(); !ok {
		t.Skip("skipped: resident memory is not known here, which the program asks for")
	}
	program, err := self()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(demandSpec{"bursts", 2, time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	status, _, errs := hakmemCommand("record", "--times", "-o", "t.trace", "--", program, demandName, string(spec))
	if status != 0 {
		t.Fatalf("status %d, %s", status, errs)
	}
	if files, err := filepath.Glob("*"); err != nil || len(files) != 1 {
		t.Errorf("leaves %q, %v", files, err)
	}
	text, err := os.ReadFile("t.trace")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`(?m)^# at \d+$`).FindAllString(string(text), -1)); n < 5 {
		t.Errorf("%d times in %.200q", n, text)
	}
	r, err := trace.Open("t.trace")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := readTraceDemand("t.trace", r)
	if err != nil {
		t.Fatal(err)
	}
	pages, most := 0, 0 // of the demand as it is made
	sizes := map[int32]int{}
	for _, op := range makeDemand("bursts", 2, time.Second).ops {
		n := (op.size + tracedPage - 1) / tracedPage
		pages += n - sizes[op.slot]
		sizes[op.slot] = n
		most = max(most, pages)
	}
	// First fit leaves some pages between blocks unused.
	if int(p.Pages) < most || int(p.Pages) > most*3/2 || p.Length < time.Second {
		t.Errorf("%d pages in %v, want %d or some more, in 1 s", p.Pages, p.Length, most)
	}
	if status, out, errs := hakmemCommand("tune", "eval", "--price", "0.5", "--trace", "t.trace"); status != 0 || !strings.Contains(out, "learner") {
		t.Errorf("status %d, %s", status, errs)
	}
}
