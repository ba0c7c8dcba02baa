package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/bench/result"
)

// asProgram is the environment variable that makes the test binary behave as the program under
// test.
const asProgram = "TEST_AS_PROGRAM"

// The commands start themselves again, so this binary must be able to act as the program when it is
// a child of a test. It can also act as a child that misbehaves.
func TestMain(m *testing.M) {
	switch {
	case isChild(os.Args), os.Getenv(asProgram) == "1":
		main()
	case os.Getenv(asProgram) == "hang":
		time.Sleep(time.Hour)
	case os.Getenv(asProgram) == "crash":
		fmt.Fprintln(os.Stderr, "a reason")
		os.Exit(3)
	case os.Getenv(asProgram) == "babble":
		fmt.Println("no JSON")
	default:
		// Without this a child built with -race would wait a second before it exits.
		os.Setenv("GORACE", "atexit_sleep_ms=0")
		os.Exit(m.Run())
	}
}

// hakmemCommand runs a command line inside the test process.
func hakmemCommand(line ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(context.Background(), append([]string{"hakmem"}, line...), &out, &errs)
	return status, out.String(), errs.String()
}

// thisProgram returns this binary as the program, to be run in a process of its own.
func thisProgram(t *testing.T, line ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, line...)
	c.Env = append(os.Environ(), asProgram+"=1")
	return c
}

// hakmemProgram runs the command in a process of its own whose outputs are pipes.
func hakmemProgram(t *testing.T, line ...string) (stdout, stderr string) {
	t.Helper()
	c := thisProgram(t, line...)
	var out, errs bytes.Buffer // exec makes pipes for these
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	return out.String(), errs.String()
}

// symlink makes a symbolic link. It skips the test where Windows does not let everyone make one.
func symlink(t *testing.T, to, name string) {
	t.Helper()
	switch err := os.Symlink(to, name); {
	case err == nil:
	case runtime.GOOS == "windows":
		t.Skip("skipped: no symbolic links: ", err)
	default:
		t.Fatal(err)
	}
}

// tiny are flags that make a measurement short.
var tiny = []string{"--iters", "2000", "--runs", "1"}

func TestFlagPlacement(t *testing.T) {
	for _, line := range []string{
		"bench random_mixed --ws 50 --alloc go --json",
		"bench --ws 50 --alloc go --json random_mixed",
		"bench --ws 50 random_mixed --json --alloc=go",
		"bench -ws=50 random_mixed -json -alloc go",
	} {
		status, out, errs := hakmemCommand(append(strings.Fields(line), tiny...)...)
		var r result.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 {
			t.Errorf("%s: status %d, %v, %s", line, status, err, errs)
			continue
		}
		if r.Workload != "random_mixed" || r.Params["ws"] != 50.0 || r.Params["iters"] != 2000.0 ||
			len(r.Results) != 1 || r.Results[0].Allocator != "go" {
			t.Errorf("%s: %s", line, out)
		}
	}
}

// TestBadInput wants the wrong value and the remedy in the message.
func TestBadInput(t *testing.T) {
	for _, c := range []struct{ line, value, remedy string }{
		{"bench", "no workload", "random_mixed, tiny_hot"},
		{"bench nothing", `"nothing"`, "random_mixed, tiny_hot"},
		{"bench random_mixed tiny_hot", `"tiny_hot"`, "leave"},
		{"bench random_mixed --min x", `"x"`, "whole number from 1 to"},
		{"bench random_mixed --min -5", `"-5"`, "whole number from 1 to"},
		{"bench random_mixed --rounds 3", "--rounds 3", "leave it out"},
		{"bench cache --threads 3", "--threads 3", "the recording has 2; leave it out"},
		{"bench sqlite --iters 3", "--iters 3", "leave it out"},
		{"bench random_mixed --scale 0", `"0"`, "above 0"},
		{"bench dist --dist nowhere.csv", `"nowhere.csv"`, "CSV"},
		{"bench dist --dist=", `--dist ""`, "use web"},
		{"compare dist --dist=", `--dist ""`, "use web"},
		{"compare all --dist /nonexistent", `"/nonexistent"`, "use web"},
		{"compare all --quick --dist /nonexistent", `"/nonexistent"`, "use web"},
		{"bench dist --iters 1000000000", "--iters 1000000000", "to 268435456"},
		{"bench dist --iters 3 --threads 4", "--iters 3", "from 4"},
		{"bench dist --scale 100", "--scale 100 gives --iters 400000000", "to 268435456"},
		{"compare all --scale 100", "--scale 100", "to 268435456"},
		{"bench tiny_hot --scale 1001", `"1001"`, "up to 1000"},
		{"bench tiny_hot --scale NaN", `"NaN"`, "up to 1000"},
		{"compare tiny_hot --later -1s", `"-1s"`, "90s"},
		{"bench json --min 8", "--min 8", "leave it out"},
		{"bench vm16 --min 8 --max 8", "--min 8", "leave it out"},
		{"bench growth now", `"now"`, "leave it out"},
		{"bench growth --alive 1,x", `"x"`, "whole numbers from 1 to 1048576"},
		{"bench growth --alive 0", `"0"`, "whole numbers from 1"},
		{"bench growth --goroutines 20000", `"20000"`, "to 16384"},
		{"bench growth --gomaxprocs=", `""`, "to 1024"},
		{"bench growth --alloc foo", `"foo"`, "mimalloc"},
		{"bench growth --rest 0", `"0"`, "90s"},
		{"bench growth --min 9 --max 8", "--min 9", "not above --max"},
		{"bench growth --replace -1", `"-1"`, "whole number from 1"},
		{"bench growth --threads 2", "-threads", "--help"},
		{"compare all --ws 3", "--ws 3", "--scale"},
		{"compare tiny_hot --quick", "--quick", "compare all"},
		{"compare tiny_hot --json --csv", "--json", "one of them"},
		{"bench tiny_hot --verify --json", "--verify", "one of them"},
		{"compare tiny_hot --verify --json", "--verify", "one of them"},
		{"compare tiny_hot --verify --csv", "--verify", "one of them"},
		{"replay x --verify --json", "--verify", "one of them"},
		{"compare tiny_hot --later never", `"never"`, "90s"},
		{"compare tiny_hot --peer go=/x", `"go=/x"`, "another name"},
		{"compare tiny_hot --peer mine=", `"mine="`, "NAME=PATH"},
		{"compare tiny_hot --peer hakmem-mine=/x", `"hakmem-mine=/x"`, "another name"},
		{"replay", "0 arguments", "name a file"},
		{"replay x --format y", `"y"`, "aosp"},
		{"record", "no program", "record -o FILE"},
		{"bench random_mixed --max 99999999999", `"99999999999"`, "to 1073741824"},
		{"bench random_mixed --min 100 --max 50", "100", "not above --max"},
		{"bench random_mixed --seed 0", `"0"`, "whole number from 1 to"},
		{"bench random_mixed --threads 1e3", `"1e3"`, "whole number from 1 to"},
		{"bench random_mixed --runs 0", `"0"`, "whole number from 1 to"},
		{"bench random_mixed --iters", "--iters", "--help"},
		{"bench random_mixed --limit soon", `"soon"`, "90s"},
		{"bench random_mixed --alloc go,foo", `"foo"`, "modernc"},
		{"bench random_mixed --alloc=", `""`, "modernc"},
		{"bench random_mixed --nope", "-nope", "--help"},
		{"bench tiny_hot --ws 3", "--ws 3", "leave it out"},
		{"compare tiny_hot --alloc foo", `"foo"`, "mimalloc"},
		{"compare tiny_hot --placements 0", `"0"`, "whole number from 1 to"},
		{"bench tiny_hot --placements 0", `"0"`, "whole number from 1 to"},
		{"compare tiny_hot --env NOT_SET_ANYWHERE", `"NOT_SET_ANYWHERE"`, "=VALUE"},
		{"compare tiny_hot --lib glibc=/x", `"glibc=/x"`, "mimalloc=PATH"},
		{"stats now", `"now"`, "leave it out"},
		{"env now", `"now"`, "leave it out"},
		{"version now", `"now"`, "leave it out"},
		{"nonsense", `"nonsense"`, "bench, compare, ab, replay, record, report, env, stats, sawtooth, tune, policy, learn, top, soak or version"},
		{"policy", "policy needs a verb", "show, diff, merge, export or import"},
		{"policy sing", `"sing"`, "show, diff, merge, export or import"},
		{"policy show", "0 files", "name one"},
		{"policy diff a", "1 files", "name two"},
		{"policy merge -o x a", "1 files", "name two"},
		{"policy merge a b", "output", ""},
		{"policy export -o x", "no program", "policy export -o FILE"},
		{"policy export -- true", "output", ""},
		{"policy export -o x -- ./no-such-program", "no-such-program", "name a program"},
		{"policy import", "no policy file", "policy import FILE"},
		{"policy import -- true", "no program", "policy import FILE"},
		{"policy import x --", "no program", "policy import FILE"},
		{"policy import x ./no-such-program", "no-such-program", "name a program"},
		{"learn", "learn needs a verb", "explain or board"},
		{"learn sing", `"sing"`, "explain or board"},
		{"learn explain", "0 files", "name one"},
		{"learn board a b", "2 files", "name one"},
		{"tune", "tune needs a verb", "eval"},
		{"tune it", `"it"`, "use eval"},
		{"tune eval now", `"now"`, "leave it out"},
		{"tune eval --seeds 0", "--seeds 0", "1 to 1000"},
		{"tune eval --length 1s", "--length 1s", "from 10s"},
		{"tune eval --price 0", "--price 0", "0.001 to 100"},
		{"tune eval --price x", "x", ""},
		{"tune eval --first 3", "--first 3", "from 4 on"},
		{"tune eval --first 18446744073709551615 --seeds 2", "--first 18446744073709551615", "from 4 on"},
		{"tune eval --out .", `--out "."`, "another file"},
		{"tune eval --out=", `--out ""`, "--json"},
		{"tune eval --out -", `"-"`, "--json"},
		{"tune eval --out no/such.json", "no/such.json", "that you can write"},
		{"tune eval --trace no/such.csv", "no/such.csv", ""},
		{"tune eval --trace a --real", `--trace "a"`, "one of them"},
		{"tune eval --trace a --length 20s", "--length 20s", "leave it out"},
		{"tune eval --trace a --seeds 2", "--seeds 2", "leave it out"},
		{"tune eval --arms auto", "--arms auto", "with --real"},
		{"tune eval --duration 5s", "--duration 5s", "with --real"},
		{"tune eval --real --length 20s", "--length 20s", "leave it out"},
		{"tune eval --real --duration 1ms", "--duration 1ms", "from 1s"},
		{"tune eval --real --patterns regular,flood", `"flood"`, "tide"},
		{"tune eval --real --arms auto,soon", `"soon"`, "such as 500ms"},
		{"tune eval --real --arms=", `""`, "nolearn"},
		{"tune eval --real --baseline 3s", `"3s"`, "--arms"},
		{"tune eval --real --price 0.0105", "0.0105", ""},
		{"tune eval --real --nolearn no/such", "no/such", "-tags hakmem_nolearn"},
		{"sawtooth now", `"now"`, "leave it out"},
		{"sawtooth --period 0s", "--period 0s", "up to an hour"},
		{"sawtooth --periods 0", "--periods 0", "1 to 1000"},
		{"sawtooth --peak 3", "--peak 3", "MiB from 16"},
		{"soak now", `"now"`, "leave it out"},
		{"soak --for 0s", `"0s"`, "90s"},
		{"soak --every 1", `"1"`, "90s"},
		{"soak --seed 0", `"0"`, "whole number from 1"},
		{"soak --threads 99999", `"99999"`, "to 16384"},
		{"--nope", "-nope", "--help"},
	} {
		status, out, errs := hakmemCommand(strings.Fields(c.line)...)
		if status != exitUsage || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.value) || !strings.Contains(errs, c.remedy) {
			t.Errorf("%s: status %d, %q, want one line with %q and %q; output %q", c.line, status, errs, c.value, c.remedy, out)
		}
	}
}

// TestClosedPipe runs the program with the other end of its output closed. It must print nothing,
// leave nothing behind, and stop measuring.
func TestClosedPipe(t *testing.T) {
	for _, line := range []string{
		"bench dist --alloc go --iters 2000 --ws 1 --runs 1",
		"bench dist --alloc go --iters 2000 --ws 1 --runs 1 --json",
		"bench dist --alloc go --iters 2000 --ws 1 --verify",
		"compare all --alloc go --scale 0.0001 --runs 1 --later 0 --verify",
		"soak --for 1h --every 1ms",
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		dir := t.TempDir()
		c := thisProgram(t, strings.Fields(line)...)
		c.Env = append(c.Env, "TMPDIR="+dir)
		var errs bytes.Buffer
		c.Stdout, c.Stderr = w, &errs
		err = c.Run()
		w.Close()
		var exit *exec.ExitError
		if runtime.GOOS != "windows" && (!errors.As(err, &exit) || exit.ExitCode() != exitPipe) || errs.Len() > 0 {
			t.Errorf("%s: %v, %q", line, err, errs.String())
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: leaves %v, %v", line, left, err)
		}
	}
}

// fullDisk is a writer on which every write fails.
type fullDisk struct{}

var errFull = errors.New("disk full")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// TestMisspelledSetting checks that nothing is measured with a misspelled setting, which would be
// measured as its default.
func TestMisspelledSetting(t *testing.T) {
	for _, line := range []string{"sawtooth", "stats", "soak", "bench tiny_hot --alloc hakmem --iters 1000 --runs 1", "compare tiny_hot --alloc hakmem --iters 1000 --runs 1 --later 0 --env HAKMEM_KEEP=alway"} {
		c := thisProgram(t, strings.Fields(line)...)
		c.Env = append(c.Env, "HAKMEM_KEEP=alway")
		if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "HAKMEM_KEEP") || !strings.Contains(string(out), "alway") {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	}
}

// TestInterrupted checks that an interrupted verb says so in one word, without Go's error.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, line := range []string{"sawtooth --peak 16 --periods 1", "bench tiny_hot --iters 2000"} {
		var out, errs bytes.Buffer
		status := run(ctx, append([]string{"hakmem"}, strings.Fields(line)...), &out, &errs)
		if status != exitFailed || errs.String() != "hakmem: interrupted\n" {
			t.Errorf("%s: status %d, %q", line, status, errs.String())
		}
	}
}
