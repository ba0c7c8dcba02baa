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
		learn.SiteRule{Name: "frames", NoLane: true, SiteSettings: learn.SiteSettings{HoldScale: 0.5, Class: 512}})
	hakmemProgram(t, "policy", "merge", "-o", merged, cached, other)
	out, _ = hakmemProgram(t, "policy", "diff", cached, other, merged)
	for _, row := range []string{
		"cache|long, 30 samples|short, 20 samples|long, 10 samples", "log|-|long, set|long, set", "frames|-|auto, HoldScale 0.5, Class 512|auto, HoldScale 0.5, Class 512", "rows|short, 20 samples|-|short, 20 samples",
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
