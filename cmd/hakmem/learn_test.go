package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// TestLearnVerbs: the state in a policy file is printed; a file without one is refused.
func TestLearnVerbs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	state := learn.NewLearner(learn.EvolutionAuto, learn.DecideNone, 1).State()
	state.Memory = learn.Memory{Resident: 7 << 20, Live: 3 << 20, Hold: 2.5}
	if err := learn.New(learn.TypicalMachine.Costs(65536, 0.1)).Snapshot().Write(f, &state); err != nil {
		t.Fatal(err)
	}
	plain := writePolicy(t, time.Minute, 4)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("something else"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		verb, file string
		status     int
		want       string // a part of the output, or of the message
	}{
		{"explain", file, 0, "hakmem has 7 MiB of memory here; 3 MiB of it are live blocks."},
		{"explain", file, 0, "kept for 2.5 s on average"},
		{"board", file, 0, "rank  hold times  budget"},
		{"board", file, 0, "  12  x "},
		{"explain", plain, exitFailed, plain + ": the policy file does not say how the learner stood"},
		{"board", plain, exitFailed, plain + ": the policy file does not say how the learner stood"},
		{"explain", text, exitFailed, text + ": this is no policy file"},
		{"board", file + " not there", exitFailed, file + " not there"},
	} {
		status, out, errs := hakmemCommand("learn", test.verb, test.file)
		if status != test.status || !strings.Contains(out+errs, test.want) || (out == "") == (status == 0) {
			t.Errorf("%s %s: status %d, want %d; %q %q, want %q", test.verb, test.file, status, test.status, out, errs, test.want)
		}
	}
}
