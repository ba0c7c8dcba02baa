package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

// TestJudge has series with a given effect and noise.
func TestJudge(t *testing.T) {
	series := func(center, noise float64, phase int) *contestant {
		c := &contestant{}
		for i := range 10 {
			c.runs = append(c.runs, result.Run{NsPerOp: center * (1 + noise*float64((i*7+phase)%10-5)/5)})
		}
		return c
	}
	for _, c := range []struct {
		name   string
		a, b   float64
		noise  float64
		expect string
	}{
		{"faster", 10, 9.7, 0.002, "GO"},
		{"slower", 10, 10.3, 0.002, "NO-GO"},
		{"the same", 10, 10, 0.002, "NEUTRAL"},
		{"a little faster", 10, 9.95, 0.002, "NEUTRAL"},
		{"faster in noise", 10, 9.7, 0.08, "UNSURE"},
		{"the same in noise", 10, 10, 0.08, "UNSURE"},
	} {
		tr := trial{a: series(c.a, c.noise, 0), b: series(c.b, c.noise, 3), again: series(c.a, c.noise, 6)}
		if v := tr.judge(); v.Word != c.expect {
			t.Errorf("%s: %+v, want %s", c.name, v, c.expect)
		}
	}
}

// TestJudgeNoise draws series without an effect: noise of 0.5 to 8 %, a drift, and now and then a
// disturbed run. No verdict may be GO or NO-GO.
func TestJudgeNoise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		noise := []float64{0.005, 0.01, 0.03, 0.08}[i%4]
		drift := 0.1 * r.Float64()
		var tr trial
		tr.a, tr.b, tr.again = &contestant{}, &contestant{}, &contestant{}
		for run := range 10 {
			for _, c := range []*contestant{tr.a, tr.b, tr.again} {
				ns := 10 * (1 + noise*r.NormFloat64() + drift*float64(run)/10)
				if r.IntN(15) == 0 {
					ns *= 1.5
				}
				c.runs = append(c.runs, result.Run{NsPerOp: ns})
			}
		}
		if v := tr.judge(); v.Word == "GO" || v.Word == "NO-GO" {
			t.Errorf("draw %d with noise %v: %+v", i, noise, v)
		}
	}
}

func TestParsePerf(t *testing.T) {
	text := "2000,,instructions:u,1,100.00,,\n<not supported>,,cycles:u,0,100.00,,\n"
	if got := parsePerf(text, 100); got != "20 instructions" {
		t.Errorf("%q", got)
	}
	if got := parsePerf("<not supported>,,cycles:u,0,100.00,,\n", 1); got != "" {
		t.Errorf("%q of a machine without counters", got)
	}
}

// TestAB runs a trial, and checks that wrong command lines are refused with the exit status of ab.
func TestAB(t *testing.T) {
	ledger := filepath.Join(t.TempDir(), "ledger.md")
	if err := os.WriteFile(ledger, []byte("# Ledger\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	line := []string{"ab", "tiny_hot", "--gate", "HAKMEM_FAST_SECTION=1,0", "--iters", "20000", "--runs", "3", "--append", ledger}
	status, out, errs := hakmemCommand(line...)
	if status < exitGo || status > exitUnsure || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	word := []string{"GO", "NO-GO", "NEUTRAL", "UNSURE"}[status]
	if !strings.Contains(out, "\n"+word+": ") || !strings.Contains(out, "off again") || !strings.Contains(out, "hardware counters") {
		t.Errorf("status %d, output %s", status, out)
	}
	text, err := os.ReadFile(ledger)
	if err != nil || !strings.HasPrefix(string(text), "# Ledger\n\n## HAKMEM_FAST_SECTION=0 against 1 on tiny_hot ("+word+")") {
		t.Errorf("%v, the ledger is %q", err, text)
	}
	for _, c := range []struct{ line, value, remedy string }{
		{"ab tiny_hot", `""`, "NAME=OFF,ON"},
		{"ab tiny_hot --gate HAKMEM_NOPE=0,1", "HAKMEM_NOPE", "hakmem env"},
		{"ab tiny_hot --gate HAKMEM_FAST_SECTION=0,maybe", "maybe", "use 0, 1"},
		{"ab tiny_hot --gate HAKMEM_FRONT_FASTLANE=0,maybe", "maybe", "use 0, 1"},
		{"ab tiny_hot --gate HAKMEM_FRONT_FASTLANE=0,1 --env HAKMEM_FAST_SECTION=1", `"HAKMEM_FAST_SECTION=1"`, "another variable"},
		{"ab tiny_hot --gate HAKMEM_FAST_SECTION=0,1 --env HAKMEM_FRONT_FASTLANE=1", `"HAKMEM_FRONT_FASTLANE=1": HAKMEM_FAST_SECTION`, "another variable"},
		{"ab tiny_hot --iters 2000 --runs 1 --gate HAKMEM_REFILL=8,16 --env HAKMEM_CAP_MID=4 --env HAKMEM_MAG_MID_BLOCKS=5", "HAKMEM_CAP_MID", "HAKMEM_MAG_MID_BLOCKS"},
		{"ab nothing --gate HAKMEM_FAST_SECTION=0,1", `"nothing"`, "random_mixed"},
		{"ab tiny_hot --nope", "-nope", "--help"},
		{"ab tiny_hot --iters 2000 --runs 1 --gate HAKMEM_FAST_SECTION=0,1 --append /nonexistent/ledger", "/nonexistent/ledger", "create the file"},
		{"ab tiny_hot --iters 2000 --runs 1 --gate HAKMEM_FAST_SECTION=0,1 --append .", " .: ", "name a file that you can write"},
	} {
		status, _, errs := hakmemCommand(strings.Fields(c.line)...)
		if status != exitAB || !strings.Contains(errs, c.value) || !strings.Contains(errs, c.remedy) {
			t.Errorf("%s: status %d, %q, want %q and %q", c.line, status, errs, c.value, c.remedy)
		}
	}
}

// TestABCommand passes the command of a ledger's entry to a shell, which must start the same trial
// again.
func TestABCommand(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("skipped: no sh: ", err)
	}
	t.Chdir(t.TempDir())
	err = errors.Join(os.WriteFile("ledger.md", nil, 0o666), os.WriteFile("my sizes.csv", []byte("64,1,100\n"), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	line := []string{"hakmem", "ab", "dist", "--gate", "HAKMEM_FAST_SECTION=1,0", "--dist", "my sizes.csv", "--scale", "0.01",
		"--ws", "1", "--iters", "2000", "--runs", "2", "--limit", "1m", "--env", "A=b c,$d", "--env", "E=it's", "--append", "ledger.md"}
	var commands []string
	for i := range 2 { // the second time with the command of the first time's entry
		if status, _, errs := hakmemCommand(line[1:]...); status > exitUnsure {
			t.Fatalf("%q: status %d: %s", line, status, errs)
		}
		text, err := os.ReadFile("ledger.md")
		parts := strings.Split(string(text), "`")
		if err != nil || len(parts) != 2*i+3 {
			t.Fatalf("%v, the ledger is %s", err, text)
		}
		commands = append(commands, parts[2*i+1])
		words, err := exec.Command(sh, "-c", `for w in `+commands[i]+`; do printf '%s\n' "$w"; done`).Output()
		if err != nil {
			t.Fatalf("%s: %v", commands[i], err)
		}
		line = append(strings.Split(strings.TrimSpace(string(words)), "\n"), "--append", "ledger.md")
	}
	want := `hakmem ab dist --gate HAKMEM_FAST_SECTION=1,0 --alloc hakmem --runs 2 --ws 1 --iters 2000 --rounds 1 --threads 1 --seed 1 ` +
		`--dist 'my sizes.csv' --limit 1m0s --env 'A=b c,$d' --env 'E=it'\''s'`
	if commands[0] != want || commands[1] != want {
		t.Errorf("the commands are\n%s\n%s\nwant\n%s", commands[0], commands[1], want)
	}
}

// TestABKeepsResult: the ledger has the result although it could not be printed.
func TestABKeepsResult(t *testing.T) {
	ledger := filepath.Join(t.TempDir(), "ledger.md")
	if err := os.WriteFile(ledger, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"--json=false", "--json"} {
		var errs bytes.Buffer
		status := run(context.Background(), []string{"hakmem", "ab", "tiny_hot", "--gate", "HAKMEM_FAST_SECTION=1,0", "--iters", "2000", "--runs", "1", "--append", ledger, format}, fullDisk{}, &errs)
		if status != exitAB || !strings.Contains(errs.String(), errFull.Error()) {
			t.Errorf("%s: status %d, %q", format, status, errs.String())
		}
	}
	if text, err := os.ReadFile(ledger); err != nil || strings.Count(string(text), "\n## HAKMEM_FAST_SECTION=0") != 2 {
		t.Errorf("%v, the ledger is %q", err, text)
	}
}
