package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/testkit"
)

// childVar makes the test binary act as the command misuse, to run a case.
const childVar = "TEST_CHILD_OF_HAKMEM"

// hangVar makes the test binary hang.
const hangVar = "TEST_HANG"

var (
	all   = flag.Bool("all", false, "every case and size at the levels that need a build, too: takes a minute")
	built = flag.Bool("built", false, "every case and size, at the levels that need a build only")
)

var update = flag.Bool("update", false, "rewrite testdata: check the difference line by line")

func TestMain(m *testing.M) {
	if os.Getenv(hangVar) != "" {
		time.Sleep(time.Hour)
	}
	if os.Getenv(childVar) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const outcomesFile = "testdata/outcomes.txt"

func expected(t *testing.T) table {
	t.Helper()
	want, err := readTable(outcomesFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	return want
}

func testRunner(t *testing.T) *runner {
	t.Helper()
	r, err := newRunner(os.Args[0], []string{childVar + "=1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// TestOutcomes runs every case in every size at every level and expects the outcome in
// testdata/outcomes.txt; with -short it runs one size or two. At the levels that need a build it
// runs one size, and only the groups that the level is for, unless -all is given.
func TestOutcomes(t *testing.T) {
	began := time.Now()
	want := expected(t)
	use := slices.DeleteFunc(slices.Clone(levels), func(l level) bool {
		why := l.missing()
		if len(l.flags) > 0 && (testing.Short() || testkit.Race) {
			why = "-short and -race build nothing"
		}
		if len(l.flags) == 0 && *built {
			why = "-built"
		}
		if why != "" {
			t.Logf("skipped: level %s: %s", l.name, why)
		}
		return why != ""
	})
	if *update && len(use) < len(levels) {
		t.Fatal("-update needs every level")
	}
	everything := *all || *built || *update
	got, err := testRunner(t).all(t.Context(), use, func(l level, c *misuseCase, size string) bool {
		if len(l.flags) > 0 && !everything { // the groups that the level is for, in one size
			return (size == "any" || size == "tiny") && slices.Contains([]string{"frees", "bounds", "after", "owners"}, c.group)
		}
		return !testing.Short() || size == "any" || size == "tiny" || size == "large" && !testkit.Race
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range got {
		if o.Outcome == skipped {
			t.Logf("skipped: %s %s: %s", o.Case, o.Size, o.Message)
			continue
		}
		if testkit.Tracked && o.Case == "overflow-region" {
			continue // there the region lies in the Go heap, and nothing faults behind it
		}
		if testkit.Tracked && o.Case == "free-racing" && o.Level == "harden" {
			continue // there the seal is not broken by an atomic (internal/engine/harden.go)
		}
		if o.Case == "heap-shared" && o.text() != byChance && (o.Outcome == timeout || o.Level == "race") {
			// Two goroutines in one Heap damage it by chance. They may wait for each other for ever, or
			// hakmem may find what they did before the detector does.
			t.Logf("%s %s at level %s: %s", o.Case, o.Size, o.Level, o.text())
			continue
		}
		if slices.Contains([]string{corrupt, died, timeout}, o.Outcome) && o.text() != byChance {
			t.Errorf("%s %s at level %s: %s: %s", o.Case, o.Size, o.Level, o.text(), o.Message)
			continue
		}
		if w := want[[3]string{o.Case, o.Size, o.Level}]; o.text() != w && !*update {
			t.Errorf("%s %s at level %s: %q, want %q; %s", o.Case, o.Size, o.Level, o.text(), w, o.Message)
		}
	}
	t.Logf("%d processes in %v", len(got), time.Since(began).Round(time.Second))
	if !*update || t.Failed() {
		return
	}
	if testing.Short() || runtime.GOOS != "linux" {
		t.Fatal("-update needs all sizes, and linux: leave -short away")
	}
	if err := os.WriteFile(outcomesFile, tableOf(got).format(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeDocument("../docs/security.md", tableOf(got)); err != nil {
		t.Fatal(err)
	}
}

// TestTable checks that the file has every case and nothing else, that it contains no defect, and
// that there is a reason for every outcome that is not caught, and for no other.
func TestTable(t *testing.T) {
	want := expected(t)
	n := 0
	for i, c := range cases {
		if caseNamed(c.name) != cases[i] {
			t.Errorf("two cases are called %s", c.name)
		}
		if len(c.sizes) == 0 || !slices.ContainsFunc(groups, func(g struct{ name, title, first string }) bool { return g.name == c.group }) {
			t.Errorf("%s: sizes %v, group %q", c.name, c.sizes, c.group)
		}
		missed := map[string]bool{} // by level
		for _, size := range c.sizes {
			for _, l := range levels {
				n++
				text := want.at(c, size, l.name)
				uncaught := strings.HasPrefix(text, notCaught) || text == byChance
				switch {
				case text == "":
					t.Errorf("%s %s at level %s: not in %s", c.name, size, l.name, outcomesFile)
				case strings.HasPrefix(text, corrupt) || strings.HasPrefix(text, died) || strings.HasPrefix(text, timeout):
					t.Errorf("%s %s at level %s: %s", c.name, size, l.name, text)
				case uncaught && c.why.of(l.name) == "":
					t.Errorf("%s %s at level %s: %s, without a reason", c.name, size, l.name, text)
				}
				if uncaught {
					missed[l.name], missed[""] = true, true
				}
			}
		}
		for name, why := range c.why {
			if !missed[name] && !(name == "" && slices.ContainsFunc(c.sizes, func(size string) bool {
				return slices.ContainsFunc(levels, func(l level) bool { return strings.HasPrefix(want.at(c, size, l.name), later) })
			})) {
				t.Errorf("%s at level %q: a reason for nothing: %s", c.name, name, why)
			}
		}
	}
	if len(want) != n {
		t.Errorf("%s has %d outcomes, %d are needed", outcomesFile, len(want), n)
	}
}

// TestDocument checks that the tables in docs/security.md are those of the file.
func TestDocument(t *testing.T) {
	want := expected(t).markdown()
	doc, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, want) {
		t.Error("docs/security.md is not up to date: go run ./misuse -markdown")
	}
	for _, r := range peerRows {
		if c := caseNamed(r.name); c == nil || !slices.Contains(c.sizes, r.size) {
			t.Errorf("row %q: there is no case %s of size %s", r.title, r.name, r.size)
		}
		if n := len(strings.Fields(r.peers)); n != len(peers) {
			t.Errorf("row %q has %d columns, want %d", r.title, n, len(peers))
		}
	}
}

// TestOutcomeOf checks the outcome of processes that ended in each possible way.
func TestOutcomeOf(t *testing.T) {
	line := linePrefix + `{"outcome":"not caught"}` + "\n"
	for _, k := range []struct {
		stdout, stderr string
		end            error
		want           outcome
	}{
		{linePrefix + `{"outcome":"later","call":"Free","kind":"k"}` + "\n", "", nil, outcome{Outcome: later, Call: "Free", Kind: "k"}},
		{line, "", nil, outcome{Outcome: notCaught}},
		{line, "WARNING: DATA RACE\n", nil, outcome{Outcome: later, Kind: "DATA RACE"}},
		{"", "unexpected fault address 0x7f001000\nfatal error: fault\n", errors.New("exit status 2"), outcome{Outcome: fault, Kind: "unexpected fault address", Address: "0x7f001000"}},
		{"", "==1==ERROR: AddressSanitizer: use-after-poison on address 0x7f001000 at pc\n", errors.New("exit status 1"), outcome{Outcome: fault, Kind: "AddressSanitizer: use-after-poison", Address: "0x7f001000"}},
		{"", "fatal error: found bad pointer in Go heap\n", errors.New("exit status 2"), outcome{Outcome: died, Kind: "found bad pointer in Go heap"}},
		{"", "", errors.New("exit status 3"), outcome{Outcome: died}},
		{linePrefix + "{", "", nil, outcome{Outcome: died}},
	} {
		got := outcomeOf([]byte(k.stdout), []byte(k.stderr), k.end)
		if got.Message = ""; got.Call == "the detector" {
			got.Call = ""
		}
		if got != k.want {
			t.Errorf("%q, %q, %v: %+v, want %+v", k.stdout, k.stderr, k.end, got, k.want)
		}
	}
}

// TestMessages compares every message, with addresses replaced, with testdata/messages.golden. It
// also checks that each has what a reader needs: the call, the address, the kind, the block where
// there is one, and the remedy.
func TestMessages(t *testing.T) {
	r := testRunner(t)
	var got bytes.Buffer
	for _, l := range levels {
		if len(l.flags) > 0 {
			continue // the sanitizer's messages are not ours, and the others are the same as without a build
		}
		ctx, cancel := context.WithTimeout(t.Context(), childLimit)
		defer cancel()
		cmd := r.command(ctx, l, "-messages")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("level %s: %v\n%s%s", l.name, err, text, stderr.Bytes())
		}
		fmt.Fprintf(&got, "# %s\n%s", l.name, text)
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "hakmem: out of memory: ") {
				if !strings.Contains(line, "; ") {
					t.Errorf("%s: %q: no remedy", l.name, line)
				}
				continue
			}
			call, rest, _ := strings.Cut(strings.TrimPrefix(line, "hakmem: "), "): ")
			if !strings.HasPrefix(line, "hakmem: ") || strings.Contains(line, "0x") {
				t.Errorf("%s: %q: no package's name, or an address that is not replaced", l.name, line)
			}
			if !misuseText.MatchString(call + ")") {
				continue // a refused argument
			}
			what, remedy, ok := strings.Cut(rest, "; ")
			if !ok || remedy == "" {
				t.Errorf("%s: %q: no remedy", l.name, line)
			}
			if strings.Contains(call, "BLOCK") != strings.Contains(what, "(block BLOCK of ") {
				t.Errorf("%s: %q: which block?", l.name, line)
			}
			for _, kind := range []string{"free", "pointer", "overflow", "underflow", "arena memory"} {
				if strings.Contains(what, kind) && !strings.Contains(what, " bytes)") {
					t.Errorf("%s: %q: no block", l.name, line)
				}
			}
		}
	}
	const golden = "testdata/messages.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s:%d: have\n%s\nwant\n%s", golden, i+1, at(g, i), at(w, i))
		}
	}
}

// misuseText matches the call at the beginning of a MisuseError's text.
var misuseText = regexp.MustCompile(`^[A-Za-z. ]+\((BLOCK([+-]\d+)?|ADDR)\)$`)

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// TestTimeout checks that a process that hangs is ended.
func TestTimeout(t *testing.T) {
	defer func(d time.Duration) { childLimit = d }(childLimit)
	childLimit = 200 * time.Millisecond
	r := testRunner(t)
	r.selfEnv = append(r.selfEnv, hangVar+"=1")
	if o := r.child(t.Context(), levels[0], "free-freed", "tiny"); o.Outcome != timeout {
		t.Errorf("%+v, want %s", o, timeout)
	}
}

// TestSoundness checks that a trial reports an allocator that is broken.
func TestSoundness(t *testing.T) {
	tr := &trial{out: outcome{Outcome: notCaught}}
	tr.judge(fmt.Errorf("block 1 overlaps block 2"))
	if tr.out.Outcome != corrupt {
		t.Errorf("%+v, want %s", tr.out, corrupt)
	}
}

// TestCommandLine checks that wrong arguments are errors.
func TestCommandLine(t *testing.T) {
	for _, k := range [][]string{{"nonsense", "tiny"}, {"free-freed", "any"}, {"one"}, {"-levels", "nonsense"}, {"-run", "("}, {"-markdown", "-run", "x"}, {"-rates", "20001"}} {
		if err := run(k); err == nil {
			t.Errorf("%q: no error", k)
		}
	}
}

// TestRates checks that guarding one block in ten finds about a tenth of the misuses. Of the reads
// past a block smaller than its page it finds half of that: those of blocks at the end of their
// page.
func TestRates(t *testing.T) {
	const n = 4000
	counts, err := testRunner(t).caught("1/10", n)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range sampledRows {
		want := n / 10
		if row.title == "read of 1 byte behind 48" {
			want /= 2
		}
		// Half of the expected number is at least seven standard deviations away from it.
		if counts[i] < want/2 || counts[i] > want*3/2 {
			t.Errorf("%s: %d of %d found, want about %d", row.title, counts[i], n, want)
		}
	}
}
