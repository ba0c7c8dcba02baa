package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// writePolicy writes what is learnt from waits of a length, and rules of sites, into a file.
func writePolicy(t *testing.T, wait time.Duration, rounds int, rules ...learn.SiteRule) (name string) {
	t.Helper()
	m := learn.New(someCosts)
	for i := range time.Duration(rounds) {
		at := i * (wait + time.Second)
		m.Freed(0, 1024, at)
		m.Taken(0, 1024, at+wait)
		m.Tick(at + wait)
	}
	s := m.Snapshot()
	s.Sites = rules
	return writeSnapshot(t, s)
}

// writeSizes writes block sizes into a file that has nothing else.
func writeSizes(t *testing.T, sizes ...learn.BlockSize) (name string) {
	t.Helper()
	s := learn.New(someCosts).Snapshot()
	s.Sizes = sizes
	return writeSnapshot(t, s)
}

// writeFactors writes factors and a board into a file that has nothing else: a factor of W_MAX, and one of the
// searches for a slab, which was cheapest in so many windows each, and the strategy that led in as many.
func writeFactors(t *testing.T, wmax, batch float64, leader, windows int) (name string) {
	t.Helper()
	w, b, board := learn.NewWMax(), learn.NewBatch(3), learn.NewBoard(1)
	cost := func(best bool) float64 {
		if best {
			return 0.5
		}
		return 1
	}
	for range windows {
		w.Window(learn.WMaxWindow{Seconds: 1, Misses: 1000, CPU: cost(w.Factor(true) == wmax)})
		b.Window(cost(learn.BatchFactors[b.Arm(true)] == batch))
		window := [len(learn.Strategies)]learn.Sample{}
		for i := range window {
			window[i].CPU = cost(i == leader)
		}
		board.Record(window)
	}
	s := learn.New(someCosts).Snapshot()
	of, standings := w.Snapshot(), board.Snapshot()
	s.WMax, s.Batches, s.Board = &of, []learn.BatchSnapshot{b.Snapshot()}, &standings
	return writeSnapshot(t, s)
}

// TestPolicyFactors: factors are shown, compared and merged, and refused where they cannot be.
func TestPolicyFactors(t *testing.T) {
	a, b, merged := writeFactors(t, 1.5, 2, 5, 200), writeFactors(t, 1.25, 0.5, 2, 80), filepath.Join(t.TempDir(), "merged")
	plain := writeSizes(t)
	hakmemProgram(t, "policy", "merge", "-o", merged, a, b)
	out, _ := hakmemProgram(t, "policy", "diff", a, b, merged, plain)
	for _, row := range []string{
		"W_MAX|1.5, 200 windows|1.25, 80 windows|1.5, 280 windows|-", "searches for a slab|2, 200 windows|0.5, 80 windows|2, 280 windows|-",
		"budget of caches, by the board|2, 151 matches|2, 31 matches|2, 182 matches|-", "hold times, by the board|0.5, 151 matches|1, 31 matches|0.5, 182 matches|-",
	} {
		if !strings.Contains(regexp.MustCompile(`  +`).ReplaceAllString(out, "|"), row) {
			t.Errorf("diff has no row %q:\n%s", row, out)
		}
	}
	if out, _ = hakmemProgram(t, "policy", "show", plain); strings.Contains(out, "factor") {
		t.Errorf("show speaks of factors where there are none:\n%s", out)
	}
	text, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte(strings.Replace(string(text), "1.75", "7.5", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errs := hakmemCommand("policy", "show", bad)
	if status == 0 || out != "" || !strings.Contains(errs, "W_MAX: the policy file has the factors [1 1.25 1.5 7.5], this hakmem has [1 1.25 1.5 1.75]: export it again") {
		t.Errorf("a file with other factors: status %d, %q, %q", status, out, errs)
	}
}

// someCosts are at a price of 0.1 those of a usual machine, for pages of 64 KiB.
var someCosts = learn.Costs{Fault: 12e-6, Return: 2e-6, Hold: 0.1 / 16384}

func writeSnapshot(t *testing.T, s learn.Snapshot) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "policy")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Write(f, nil); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPolicyVerbs: policy files are shown, compared and merged.
func TestPolicyVerbs(t *testing.T) {
	short, long := writePolicy(t, 500*time.Millisecond, 40), writePolicy(t, time.Minute, 4)
	out, _ := hakmemProgram(t, "policy", "show", long)
	if !strings.Contains(out, " samples") || !strings.Contains(out, "64.0 MiB in use") || !strings.Contains(out, "break-even 2.29 s") || !strings.Contains(out, "16/16") {
		t.Errorf("show:\n%s", out)
	}
	if out, _ = hakmemProgram(t, "policy", "show", "--price", "1", long); !strings.Contains(out, "break-even 0.23 s") {
		t.Errorf("show --price 1:\n%s", out)
	}
	merged := filepath.Join(t.TempDir(), "merged")
	hakmemProgram(t, "policy", "merge", "-o", merged, short, long)
	out, _ = hakmemProgram(t, "policy", "diff", short, long, merged)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	row := strings.Fields(lines[len(lines)-1])
	var hold [3]float64
	for i := range hold {
		if len(row) == 4 {
			hold[i], _ = strconv.ParseFloat(row[i+1], 64)
		}
	}
	if hold[0] < 0.5 || hold[1] > 0.2 || hold[2] < hold[0]/2 {
		t.Errorf("diff: the last band has %q, want the merged one near the first, which has more samples:\n%s", row, out)
	}
	if strings.Contains(out, "rule") {
		t.Errorf("diff speaks of sites where there are none:\n%s", out)
	}
	cached := writePolicy(t, time.Minute, 4, learn.SiteRule{Name: "cache", Long: true, Samples: 30}, learn.SiteRule{Name: "rows", Samples: 20})
	other := writePolicy(t, time.Minute, 4, learn.SiteRule{Name: "cache", Samples: 20}, learn.SiteRule{Name: "log", Long: true},
		learn.SiteRule{Name: "frames", NoLane: true, SiteSettings: learn.SiteSettings{HoldScale: 0.5, Class: 512}},
		learn.SiteRule{Name: "tiles", NoLane: true, LearntTouch: learn.RulePopulate, TouchPlays: 64})
	hakmemProgram(t, "policy", "merge", "-o", merged, cached, other)
	out, _ = hakmemProgram(t, "policy", "diff", cached, other, merged)
	for _, row := range []string{
		"cache|long, 30 samples|short, 20 samples|long, 10 samples", "log|-|long, set|long, set", "frames|-|auto, HoldScale 0.5, Class 512|auto, HoldScale 0.5, Class 512", "rows|short, 20 samples|-|short, 20 samples",
		"tiles|-|auto, Touch populate, 64 plays|auto, Touch populate, 64 plays",
	} {
		if !strings.Contains(regexp.MustCompile(`  +`).ReplaceAllString(out, "|"), row) {
			t.Errorf("diff has no row %q:\n%s", row, out)
		}
	}
	if strings.Contains(out, "block size") {
		t.Errorf("diff speaks of block sizes where there are none:\n%s", out)
	}
	mids, larger := writeSizes(t, learn.BlockSize{Size: 4224, Weight: 30}, learn.BlockSize{Size: 8320}), writeSizes(t, learn.BlockSize{Size: 16512, Weight: 40})
	hakmemProgram(t, "policy", "merge", "-o", merged, mids, larger)
	out, _ = hakmemProgram(t, "policy", "diff", mids, larger, merged)
	for _, row := range []string{"4224|30 samples|-|-", "8320|set|-|set", "16512|-|40 samples|40 samples"} {
		if !strings.Contains(regexp.MustCompile(`  +`).ReplaceAllString(out, "|"), row) {
			t.Errorf("diff has no row %q:\n%s", row, out)
		}
	}
	if out, _ = hakmemProgram(t, "policy", "merge", "-o", "-", short, long); !strings.Contains(out, "hakmem policy") {
		t.Errorf("merge to standard output:\n%s", out)
	}
}

// TestMergeKeepsInputs: an input of a merge is not replaced, whatever name it is given by.
func TestMergeKeepsInputs(t *testing.T) {
	a, b := writePolicy(t, 500*time.Millisecond, 40), writePolicy(t, time.Minute, 4)
	link := filepath.Join(t.TempDir(), "link")
	symlink(t, b, link)
	for _, output := range []string{a, b, link, filepath.Dir(a) + "/./policy"} {
		before := [2][]byte{}
		for i, name := range []string{a, b} {
			before[i], _ = os.ReadFile(name)
		}
		status, out, errs := hakmemCommand("policy", "merge", "-o", output, a, b)
		if status != exitUsage || out != "" || !strings.Contains(errs, "is the input") || !strings.Contains(errs, "another file") {
			t.Errorf("-o %s: status %d, %q, %q", output, status, out, errs)
		}
		for i, name := range []string{a, b} {
			if after, err := os.ReadFile(name); err != nil || string(after) != string(before[i]) {
				t.Errorf("-o %s: %s has changed: %v", output, name, err)
			}
		}
	}
}
