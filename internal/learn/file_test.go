package learn

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// learnt returns what a Model has learnt from waits of all pages.
func learnt(t *testing.T, pages uint32, rounds int, wait time.Duration) Snapshot {
	t.Helper()
	m := New(testCosts)
	for i := range time.Duration(rounds) {
		at := i * (wait + time.Second)
		m.Freed(0, pages, at)
		m.Taken(0, pages, at+wait)
		m.Tick(at + wait)
	}
	return m.Snapshot()
}

func holds(t *testing.T, s Snapshot) (mean float64) {
	t.Helper()
	list, err := s.MeanHolds(testCosts)
	if err != nil || len(list) != Bands {
		t.Fatal(list, err)
	}
	for _, h := range list {
		mean += h / Bands
	}
	return mean
}

// TestMerge: what was seen more often counts more, whatever the sizes of the programs.
func TestMerge(t *testing.T) {
	short, long := learnt(t, 4096, 40, 500*ms), learnt(t, 1024, 4, time.Minute)
	if h := holds(t, short); h < 0.5 || h > 1.5 {
		t.Errorf("after waits of 0.5 s pages are kept for %g s", h)
	}
	if h := holds(t, long); h > 0.2 {
		t.Errorf("after waits of a minute pages are kept for %g s", h)
	}
	both, err := short.Merge(long)
	if err != nil {
		t.Fatal(err)
	}
	if h := holds(t, both); h < 0.5 {
		t.Errorf("after many waits of 0.5 s and few of a minute pages are kept for %g s", h)
	}
	if other, err := long.Merge(short); err != nil || math.Abs(holds(t, other)-holds(t, both)) > 1e-9 || other.Pages != 4096 {
		t.Errorf("the order of a merge matters: %g and %g s, %d pages: %v", holds(t, other), holds(t, both), other.Pages, err)
	}
	few, many := learnt(t, 1024, 1, 500*ms), learnt(t, 1024, 40, time.Minute)
	if both, err = few.Merge(many); err != nil || holds(t, both) > 0.2 {
		t.Errorf("after few waits of 0.5 s and many of a minute pages are kept for %g s: %v", holds(t, both), err)
	}
	if same, err := short.Merge(short); err != nil || math.Abs(same.Samples()-short.Samples()) > 1e-6*short.Samples() {
		t.Errorf("merged with itself, %g samples become %g: %v", short.Samples(), same.Samples(), err)
	}
	fresh := New(testCosts).Snapshot()
	if same, err := fresh.Merge(short); err != nil || math.Abs(holds(t, same)-holds(t, short)) > 1e-9 {
		t.Errorf("merged with nothing, %g s become %g: %v", holds(t, short), holds(t, same), err)
	}
	bad := short
	bad.Bands = bad.Bands[1:]
	if _, err := short.Merge(bad); err == nil {
		t.Error("a damaged snapshot can be merged")
	}
}

// fileOf returns the policy file of s, without a state.
func fileOf(t testing.TB, s Snapshot) string {
	t.Helper()
	var text strings.Builder
	if err := s.Write(&text, nil); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestFile: what is written is read again.
func TestFile(t *testing.T) {
	s := learnt(t, 1024, 40, 500*ms)
	text := fileOf(t, s)
	got, err := ReadSnapshot(strings.NewReader(text))
	if err != nil || holds(t, got) != holds(t, s) || got.Samples() != s.Samples() || got.Costs != s.Costs {
		t.Errorf("%+v, %v, want %+v", got, err, s)
	}
	if len(text) > 64<<10 {
		t.Errorf("a file has %d bytes", len(text))
	}
}

// TestFileHoles: what is known of holes is written and read, and refused if it cannot be.
func TestFileHoles(t *testing.T) {
	s, holes := learnt(t, 1024, 40, 500*ms), learnt(t, 512, 10, time.Minute)
	s.Holes = &holes
	got, err := ReadSnapshot(strings.NewReader(fileOf(t, s)))
	if err != nil || got.Holes == nil || !reflect.DeepEqual(*got.Holes, holes) {
		t.Errorf("%+v, %v, want %+v", got.Holes, err, holes)
	}
	for _, bad := range []struct {
		says string
		do   func(*Snapshot)
	}{
		{"a board of its own", func(h *Snapshot) { h.Holes = &Snapshot{} }},
		{"a board of its own", func(h *Snapshot) { h.Sites = []SiteRule{{Name: "a"}} }},
		{"a board of its own", func(h *Snapshot) { h.Sizes = []BlockSize{{Size: 4224}} }},
		{"a board of its own", func(h *Snapshot) { h.Touch = &TouchSnapshot{} }},
		{"a board of its own", func(h *Snapshot) { h.WMax = &WMaxSnapshot{} }},
		{"a board of its own", func(h *Snapshot) { h.Batches = []BatchSnapshot{{}} }},
		{"a board of its own", func(h *Snapshot) { h.Board = &BoardSnapshot{} }},
		{"of holes", func(h *Snapshot) { h.Bands = h.Bands[1:] }},
		{"of holes", func(h *Snapshot) { h.Costs.Hold = 0 }},
		{"of holes", func(h *Snapshot) { h.Pages = mostPages + 1 }},
	} {
		holes := holes
		bad.do(&holes)
		s.Holes = &holes
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("damaged holes: %v, want an error about %s", err, bad.says)
		}
	}
}

// TestMergeHoles: what is known of holes is merged like the rest. What only one file says is kept.
func TestMergeHoles(t *testing.T) {
	with := func(holes *Snapshot) Snapshot {
		s := learnt(t, 1024, 4, 2*time.Second)
		s.Holes = holes
		return s
	}
	short, long := learnt(t, 1024, 40, 500*ms), learnt(t, 1024, 4, time.Minute)
	want, err := short.Merge(long)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		a, b, want *Snapshot
	}{
		{"both", &short, &long, &want},
		{"the first", &short, nil, &short},
		{"the second", nil, &long, &long},
		{"none", nil, nil, nil},
	} {
		both, err := with(test.a).Merge(with(test.b))
		if err != nil || !reflect.DeepEqual(both.Holes, test.want) {
			t.Errorf("%s: %+v, %v, want %+v", test.name, both.Holes, err, test.want)
		}
		if h := holds(t, both); h != holds(t, with(nil)) {
			t.Errorf("%s: holes change for how long pages are kept to %g s", test.name, h)
		}
	}
	damaged := short
	damaged.Bands = damaged.Bands[1:]
	if _, err := with(&short).Merge(with(&damaged)); err == nil {
		t.Error("damaged holes can be merged")
	}
}

// FuzzReadSnapshot: whatever a file contains, it is read without a panic, and what is read can be used and merged.
func FuzzReadSnapshot(f *testing.F) {
	text := fileOf(f, New(testCosts).Snapshot())
	f.Add(text)
	f.Add(`{"format": "hakmem policy", "version": 1}`)
	f.Add(strings.Replace(text, "0.45", "1e999", 1))
	other := withFactors()
	factors := fileOf(f, other)
	f.Add(factors)
	f.Add(strings.Replace(factors, `"Adopted": 2`, `"Adopted": -2`, 1))
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ReadSnapshot(strings.NewReader(text)); err == nil {
			if err := New(testCosts).Restore(s); err != nil {
				t.Error(err)
			}
			if both, err := s.Merge(other); err == nil && both.Check() != nil {
				t.Error(both.Check())
			}
		}
	})
}
