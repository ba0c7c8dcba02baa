package main

import (
	"cmp"
	"slices"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

func TestWatch(t *testing.T) {
	r := result.Run{Begin: 1e9, End: 3e9, Seconds: 2, IdleRSS: 100, PeakRSS: 400}
	list := []sample{{0, 50}, {1e9, 100}, {2e9, 300}, {3e9, 200}, {4e9, 900}}
	if got := area(list, r); got != 200 { // idle in the first second, 200 over idle in the second
		t.Errorf("%v byte seconds", got)
	}
	if got := area(nil, r); got != 600 {
		t.Errorf("%v byte seconds of an unwatched run, want its peak all the time", got)
	}
	if got := area(list, result.Run{Begin: 1e9, End: 3e9, Seconds: 2, PeakRSS: 400}); got != 0 {
		t.Errorf("%v byte seconds over an unknown idle", got)
	}
	if got := curve(list, r); len(got) != 3 || got[1] != [2]float64{1, 300} {
		t.Errorf("curve %v", got)
	}
	var many []sample
	for i := range int64(10_000) {
		many = append(many, sample{1e9 + i*1e5, uint64(i % 5000)})
	}
	if got := curve(many, r); len(got) > maxPoints || slices.MaxFunc(got, func(a, b [2]float64) int { return cmp.Compare(a[1], b[1]) })[1] != 4999 {
		t.Errorf("%d points of 10000", len(got))
	}
}
