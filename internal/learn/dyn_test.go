package learn

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// eighths returns the classes of an eighth of a doubling above 1 KiB, which hold so many bytes each.
func eighths(inUse float64) (list []SizeClass) {
	below := LeastSize
	for doubling := LeastSize; doubling < MostSize; doubling *= 2 {
		for range 8 {
			size := below + doubling/8
			list = append(list, SizeClass{below, size, float64(size), inUse})
			below = size
		}
	}
	return list
}

// plainShare is SizeClass.Share where slabs leave nothing unused.
func plainShare(size int) float64 { return float64(size) }

// TestSizesPeaks: which size is proposed after three windows, by how requests are spread and how much is held.
func TestSizesPeaks(t *testing.T) {
	even := func(from, to int) (sizes []int) {
		for size := from + 1; size <= to; size += 16 {
			sizes = append(sizes, size)
		}
		return sizes
	}
	for _, test := range []struct {
		name  string
		sizes []int // requested in turn, 400 in all
		inUse float64
		want  int // 0: none
	}{
		{"4112", []int{4112}, 64 << 20, 4224},
		{"8208", []int{8208}, 64 << 20, 8320},
		{"16400", []int{16400}, 64 << 20, 16512},
		{"2080", []int{2080}, 64 << 20, 2176},
		{"1040 has a class at once", []int{1040}, 64 << 20, 0},
		{"the class itself", []int{4608}, 64 << 20, 0},
		{"no more to gain", []int{4500}, 64 << 20, 0},              // 4608 of 4608
		{"a little less than the class", []int{4400}, 64 << 20, 0}, // 4480 of 4608 are 2.8 %
		{"half of them", []int{4112, 4600}, 64 << 20, 4224},
		{"a third of them", []int{4112, 4600, 4600}, 64 << 20, 0},
		{"two near each other", []int{4112, 4240}, 64 << 20, 4352},
		{"spread evenly", even(4096, 4608), 1 << 40, 0},
		{"spread evenly over all", even(LeastSize, MostSize), 1 << 40, 0},
		{"too little is held", []int{4112}, 11 << 20, 0}, // a 12th is saved
		{"just enough is held", []int{4112}, 13 << 20, 4224},
		{"the best of two classes", []int{4112, 16400, 16400}, 64 << 20, 16512},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s Sizes
			var asked [SizeSteps]uint32
			for i := range 400 {
				asked[(test.sizes[i%len(test.sizes)]-1)/SizeStep]++
			}
			classes := eighths(test.inUse)
			if test.name == "the best of two classes" { // which hold twice as much of the larger
				classes[8*2].InUse /= 2
			}
			for i := range 5 {
				p, ok := s.Window(&asked, classes, plainShare)
				if want := test.want; i < 2 && ok || i >= 2 && p.Size != want || ok != (p.Size != 0) {
					t.Fatalf("window %d: %+v, %t; want %d", i, p, ok, want)
				}
				if ok && (p.Saved < leastSaved || p.Asked < leastAsked || p.Instead <= p.Size) {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

// TestSizesRows: a peak must be there in three windows in a row, few requests say nothing, and what was
// asked for before is forgotten when other sizes are asked for, and not by itself.
func TestSizesRows(t *testing.T) {
	var s Sizes
	busy, idle := [SizeSteps]uint32{4112 / SizeStep: 100}, [SizeSteps]uint32{}
	held, gone := eighths(64<<20), eighths(0)
	window := func(asked *[SizeSteps]uint32, classes []SizeClass, want bool) {
		t.Helper()
		if p, ok := s.Window(asked, classes, plainShare); ok != want {
			t.Fatalf("proposed %+v, %t; want %t", p, ok, want)
		}
	}
	for range 3 { // twice, and then the blocks are gone
		window(&busy, held, false)
		window(&busy, held, false)
		window(&busy, gone, false)
	}
	window(&busy, held, false)
	window(&busy, held, false)
	window(&busy, held, true)
	for range 100 { // until there is a class
		window(&idle, held, true)
	}
	others, n := [SizeSteps]uint32{4600 / SizeStep: 100}, 0
	for ; n < 100; n++ {
		if _, ok := s.Window(&others, held, plainShare); !ok {
			break
		}
	}
	// Some 500 requests are remembered of each. Below half of all 4224 bytes are not worth it any more.
	if n < 2 || n > 5 {
		t.Errorf("the peak is forgotten after %d windows", n)
	}
	s = Sizes{}
	few := [SizeSteps]uint32{4112 / SizeStep: leastAsked - 1}
	window(&few, held, false)
	for range 10 {
		window(&idle, held, false)
	}
}

// TestSizesShare: what a slab leaves unused counts, so that a size whose slabs leave much is not worth it.
func TestSizesShare(t *testing.T) {
	for share, want := range map[float64]int{4224: 4224, 4423: 4224, 4424: 0} { // 4423.68 would save 4 %
		asked := [SizeSteps]uint32{4112 / SizeStep: 100}
		var s Sizes
		var p SizeProposal
		for range 3 {
			p, _ = s.Window(&asked, eighths(64<<20), func(int) float64 { return share })
		}
		if p.Size != want {
			t.Errorf("a share of %g: %+v, want %d", share, p, want)
		}
	}
}

// TestSizesByChance: sizes drawn evenly never look like a peak, whatever the seed.
func TestSizesByChance(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 7))
		var s Sizes
		for range 60 {
			var asked [SizeSteps]uint32
			for range 4000 {
				asked[LeastSize/SizeStep+r.IntN(SizeSteps-LeastSize/SizeStep)]++
			}
			if p, ok := s.Window(&asked, eighths(1<<30), plainShare); ok {
				t.Fatalf("seed %d: %+v", seed, p)
			}
		}
	}
}

// TestBlockSizesInFiles: a policy file carries sizes, one without them is read as before, and bad ones are
// refused.
func TestBlockSizesInFiles(t *testing.T) {
	s := New(testCosts).Snapshot()
	write := func() string { return fileOf(t, s) }
	if text := write(); strings.Contains(text, "Sizes") {
		t.Error("a file without block sizes mentions them")
	}
	s.Sizes = []BlockSize{{4224, 300}, {16512, 0}}
	got, err := ReadSnapshot(strings.NewReader(write()))
	if err != nil || !reflect.DeepEqual(got.Sizes, s.Sizes) {
		t.Errorf("%+v, %v; want %+v", got.Sizes, err, s.Sizes)
	}
	for says, bad := range map[string][]BlockSize{
		"at most 2":         {{4224, 1}, {8320, 1}, {16512, 1}},
		"of 4100 bytes":     {{4100, 1}},
		"of 1024 bytes":     {{1024, 1}},
		"of 32768 bytes":    {{32768, 1}},
		"of -4224 bytes":    {{-4224, 1}},
		"4224 is to be add": {{4224, 1}, {4224, 1}},
		"from -1 requests":  {{4224, -1}},
		"from NaN requests": {{4224, math.NaN()}},
	} {
		s.Sizes = bad
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want it to say %q", bad, err, says)
		}
	}
}

// TestMergeBlockSizes: sizes count by their weight, and those that were set count in any case.
func TestMergeBlockSizes(t *testing.T) {
	for _, c := range []struct{ a, b, want []BlockSize }{
		{nil, nil, nil},
		{[]BlockSize{{4224, 20}}, nil, []BlockSize{{4224, 20}}},
		{[]BlockSize{{4224, 20}}, []BlockSize{{4224, 30}}, []BlockSize{{4224, 50}}},
		{[]BlockSize{{4224, 20}, {8320, 5}}, []BlockSize{{16512, 30}}, []BlockSize{{16512, 30}, {4224, 20}}},
		{[]BlockSize{{4224, 20}, {8320, 5}}, []BlockSize{{8320, 30}, {16512, 30}}, []BlockSize{{8320, 35}, {16512, 30}}},
		{[]BlockSize{{4224, 20}, {8320, 5}}, []BlockSize{{16512, 0}}, []BlockSize{{16512, 0}, {4224, 20}}},
		{[]BlockSize{{4224, 0}}, []BlockSize{{4224, 20}, {8320, 1}}, []BlockSize{{4224, 0}, {8320, 1}}},
		{[]BlockSize{{4224, 0}, {8320, 0}}, []BlockSize{{16512, 0}}, []BlockSize{{4224, 0}, {8320, 0}}},
	} {
		if got := mergeSizes(c.a, c.b); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
	a, b := New(testCosts).Snapshot(), New(testCosts).Snapshot()
	a.Sizes, b.Sizes = []BlockSize{{4224, 20}}, []BlockSize{{8320, 30}}
	if both, err := a.Merge(b); err != nil || len(both.Sizes) != 2 || len(a.Sizes) != 1 {
		t.Errorf("merged: %+v, %v; the first is now %+v", both.Sizes, err, a.Sizes)
	}
}
