package main

import (
	"strings"
	"testing"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

// TestToday runs both comparisons with very little to do, with SQLite as it is: this process cannot have another
// page cache, nor another allocator.
func TestToday(t *testing.T) {
	for _, name := range []string{"sqlite", "sqlite-pagecache"} {
		s := measure.Setting{Comparison: name, Variant: today, Goroutines: 2, Scale: 0.001, Dir: t.TempDir()}
		if name == "sqlite-pagecache" {
			if err := prepareReaders(s); err != nil {
				t.Fatal(err)
			}
		}
		var sums []uint64
		for range 2 {
			j, err := begin(s)
			if err != nil {
				t.Fatal(err)
			}
			r, err := measure.Run(j, s)
			if err != nil {
				t.Fatal(err)
			}
			if r.Operations == 0 || r.Sum == 0 {
				t.Errorf("%s: %+v", name, r)
			}
			sums = append(sums, r.Sum)
		}
		if sums[0] != sums[1] {
			t.Errorf("%s: the sums of two runs are %d", name, sums)
		}
	}
}

// TestWrongBuild: a variant does not run in a program that was built for another.
func TestWrongBuild(t *testing.T) {
	for _, s := range []measure.Setting{
		{Comparison: "sqlite", Variant: onHakmem, Goroutines: 1},
		{Comparison: "sqlite-pagecache", Variant: both, Goroutines: 1},
	} {
		if _, err := begin(s); err == nil || !strings.Contains(err.Error(), "replaced: false, want true") {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, s := range []measure.Setting{
		{Comparison: "sqlite", Variant: "no"}, {Comparison: "sqlite-pagecache", Variant: "no"}, {Comparison: "no"},
	} {
		if _, err := begin(s); err == nil || !strings.Contains(err.Error(), `"no"`) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
