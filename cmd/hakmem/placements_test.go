package main

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

// TestPadding: 64 placements have all cache lines of an OS page, and the first eight lie apart by more
// than two lines.
func TestPadding(t *testing.T) {
	seen := map[int]int{}
	for k := 1; k <= 64; k++ {
		p := padding(k)
		if other, again := seen[p]; again || p%64 != 0 || p < 0 || p >= dataRange {
			t.Errorf("placement %d: padding %d, as in placement %d", k, p, other)
		}
		seen[p] = k
		for other, j := range seen {
			if apart := (p - other + dataRange) % dataRange; k <= 8 && j < k && min(apart, dataRange-apart) <= 2*64 {
				t.Errorf("placements %d and %d are %d bytes apart", j, k, apart)
			}
		}
	}
}

// TestPlacementsDiffer builds two placements and looks for a function and a variable in them.
func TestPlacementsDiffer(t *testing.T) {
	switch _, err := exec.LookPath("go"); {
	case testing.Short():
		t.Skip("skipped with -short: it links two programs")
	case err != nil:
		t.Skip("skipped: ", err)
	case runtime.GOOS != "linux":
		t.Skip("skipped: it reads ELF files")
	}
	programs, clean, err := buildPlacements(context.Background(), 2, newProgress(io.Discard, 2))
	if err != nil {
		t.Fatal(err)
	}
	defer clean()
	var at [2]map[string]uint64
	for i, name := range programs {
		f, err := elf.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		symbols, err := f.Symbols()
		if err != nil {
			t.Fatal(err)
		}
		at[i] = map[string]uint64{}
		for _, s := range symbols {
			at[i][s.Name] = s.Value
		}
	}
	const function, variable = "github.com/hakmem/hakmem.Malloc", "github.com/hakmem/hakmem/internal/engine.Granules"
	if a, b := at[0][function], at[1][function]; a == 0 || b == 0 || a == b {
		t.Errorf("the function is at %#x and %#x", a, b)
	}
	if a, b := at[0][variable], at[1][variable]; a == 0 || b == 0 || (b-a)%dataRange != paddingStep {
		t.Errorf("the variable is at %#x and %#x, %d bytes apart, want %d modulo %d", a, b, int64(b-a), paddingStep, dataRange)
	}
}

// TestPrintPlacements: the table has the median, the best and the worst of each allocator, and their ratio.
func TestPrintPlacements(t *testing.T) {
	var runs []result.Run
	for _, r := range []struct {
		placement int
		ns        float64
	}{{1, 4}, {2, 3}, {3, 6}, {1, 4}, {2, 3}, {3, 6}} {
		runs = append(runs, result.Run{Placement: r.placement, NsPerOp: r.ns})
	}
	var out strings.Builder
	report := result.Report{Results: []result.Result{result.Summarize("hakmem", runs, nil), result.Summarize("peer", runs[:1], nil)}}
	if err := printPlacements(&out, report); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	if want := "ns/op by placement median best worst worst / best 1 2 3 hakmem 4.000 3.000 6.000 2.00 4.000 3.000 6.000"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	out.Reset()
	report.Results = report.Results[1:]
	if err := printPlacements(&out, report); err != nil || out.Len() > 0 {
		t.Errorf("one placement: %q, %v", out.String(), err)
	}
	if err := printPlacements(fullDisk{}, result.Report{Results: []result.Result{result.Summarize("hakmem", runs, nil)}}); fmt.Sprint(err) != errFull.Error() {
		t.Errorf("%v of a full disk", err)
	}
}
