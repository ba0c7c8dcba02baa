package trace

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadDistribution(t *testing.T) {
	tests := []struct {
		name, text string
		want       []Class
	}{
		{"plain", "1, 1034.05, 15.6\n64,0,1e3\n", []Class{{1, 1034.05, 15.6}, {64, 0, 1000}}},
		{"titles, comments, blanks, CRLF", "# c\r\n\r\nsize,rate,live\r\n  8 ,\t1 , 2  \r\n# 9, 9, 9\r\n", []Class{{8, 1, 2}}},
		{"quoted titles", "\"Size (B)\", \"rate\",\"live\"\n8,1,2\n", []Class{{8, 1, 2}}},
		{"titles in another alphabet", "größe,häufigkeit,ünd\n8,1,2\n", []Class{{8, 1, 2}}},
		{"a byte order mark", "\ufeff8,1,2\n9,1,2\n", []Class{{8, 1, 2}, {9, 1, 2}}},
		{"a byte order mark and titles", "\ufeffsize,rate,live\r\n8,1,2\n", []Class{{8, 1, 2}}},
		{"a byte order mark and a comment", "\ufeff# 7,1,2\n8,1,2\n", []Class{{8, 1, 2}}},
		{"a size twice, no newline", "8,1,2\n8,3,4", []Class{{8, 1, 2}, {8, 3, 4}}},
		{"bounds", "18446744073709551615,1e18,1e18\n1,0,0", []Class{{1<<64 - 1, 1e18, 1e18}, {1, 0, 0}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := ReadDistribution(strings.NewReader(test.text), "t")
			if err != nil || d.Name != "t" || !slices.Equal(d.Classes, test.want) {
				t.Errorf("%+v, error %v; want %+v", d, err, test.want)
			}
		})
	}
}

func TestReadDistributionRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "t: no rows: want size, rate, live"},
		{"size,rate,live\n# none\n", "t: no rows"},
		{"size,rate,live\nsize,rate,live\n", `t:2: "size,rate,live": size: want a whole number of bytes, from 1`},
		{"1,1,1\nsize,rate,live\n", `t:2: "size,rate,live": size`},
		{"l6,1000,10\n8,1,2\n", `t:1: "l6,1000,10": size`},
		{"size,1000,10\n8,1,2\n", `t:1: "size,1000,10": size`},
		{"NaN,NaN,NaN\n8,1,2\n", `t:1: "NaN,NaN,NaN": size`},
		{"\"inf\",b,c\n8,1,2\n", "t:1: "},
		{"\"8\",\"1\",\"2\"\n8,1,2\n", "t:1: "},
		{"size;rate;live\n8,1,2\n", `t:1: "size;rate;live": want three fields`},
		{"8,1,2\n\ufeff9,1,2\n", "t:2: "},
		{"1,1\n", `t:1: "1,1": want three fields: size, rate, live`},
		{"1,1,1,1\n", `t:1: "1,1,1,1": want three fields`},
		{"0,1,1\n", "size: want a whole number"},
		{"-1,1,1\n", "size: want a whole number"},
		{"1.5,1,1\n", "size: want a whole number"},
		{"18446744073709551616,1,1\n", "size: want a whole number"},
		{"1,,1\n", "rate: want a number from 0 to 1e+18"},
		{"1,-1,1\n", "rate: want"},
		{"1,NaN,1\n", "rate: want"},
		{"1,Inf,1\n", "rate: want"},
		{"1,1,-0.1\n", "live: want"},
		{"1,1,nan\n", "live: want"},
		{"1,1,+inf\n", "live: want"},
		{"1,1,1e999\n", "live: want"},
		{"1,1,1.1e18\n", "live: want"},
		{"1,1,1\n\n#\n1;1;1\n", `t:4: "1;1;1": want three`},
		{"1,1,1\n#" + strings.Repeat("x", maxLine), "t:2: longer than 65536 bytes"},
		{strings.Repeat("1,1,1\n", maxClasses+1), "t:524289:"},
	}
	for _, test := range tests {
		if _, err := ReadDistribution(strings.NewReader(test.text), "t"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.40q: error %v, want one with %q", test.text, err, test.want)
		}
	}
	fail := errors.New("no such luck")
	if _, err := ReadDistribution(iotest.ErrReader(fail), "t"); !errors.Is(err, fail) {
		t.Errorf("error %v, want %v", err, fail)
	}
	if _, err := Builtin("mail"); err == nil || err.Error() != `distribution "mail": use web, or a file` {
		t.Errorf("error %v", err)
	}
}

func TestDistributionTapeRefuses(t *testing.T) {
	d := Distribution{"t", []Class{{8, 1, 100}}}
	tests := []struct {
		d    Distribution
		o    TapeOptions
		want string
	}{
		{d, TapeOptions{Threads: -1}, "-1 threads: use 1 to 4096"},
		{d, TapeOptions{Threads: 4097}, "4097 threads"},
		{d, TapeOptions{Ops: -1}, "-1 operations: use 1, one for each thread, to 268435456"},
		{d, TapeOptions{Ops: 3, Threads: 4}, "3 operations: use 4"},
		{d, TapeOptions{Ops: 1<<28 + 1}, "268435457 operations"},
		{d, TapeOptions{MaxSize: 1 << 41}, "largest size of 2199023255552 bytes"},
		{d, TapeOptions{Scale: -1}, "scale -1: use a number above 0"},
		{d, TapeOptions{Scale: math.NaN()}, "scale NaN"},
		{d, TapeOptions{Scale: math.Inf(1)}, "scale +Inf"},
		{d, TapeOptions{Scale: 1e6}, "t: 100000000 live blocks: use fewer live bytes or a smaller scale, for at most 67108864"},
		{Distribution{"t", []Class{{8, 0, 100}}}, TapeOptions{}, "t: the rates of all 1 rows are 0"},
		{Distribution{Name: "t"}, TapeOptions{}, "t: the rates of all 0 rows are 0"},
		{Distribution{"t", []Class{{1, 1, 1e18}}}, TapeOptions{}, "t: 268435456 live blocks"},
	}
	for _, test := range tests {
		if _, err := test.d.Tape(test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want one with %q", test.o, err, test.want)
		}
	}
}

func mustTape(t testing.TB, d Distribution, o TapeOptions) *Tape {
	t.Helper()
	tape, err := d.Tape(o)
	if err != nil {
		t.Fatal(err)
	}
	return tape
}

func webDistribution(t testing.TB) Distribution {
	t.Helper()
	d, err := Builtin("web")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDistributionTapesRun(t *testing.T) {
	d := webDistribution(t)
	for _, threads := range []int{1, 3} {
		const ops = 20_000
		tape := mustTape(t, d, TapeOptions{Ops: ops, LiveBytes: 1 << 20, Threads: threads, Seed: 1})
		if tape.Threads != threads || len(tape.Ops) != tape.Initial+ops || tape.Initial < 1000 {
			t.Errorf("%d threads, %d operations, %d of them initial", tape.Threads, len(tape.Ops), tape.Initial)
		}
		model(t, tape)
		execute(t, tape)

		// No slot has operations of two threads, and threads take turns.
		owner := map[uint32]uint32{}
		for i, op := range tape.Ops {
			if o, ok := owner[op.Slot/slotPad]; ok && o != op.Thread {
				t.Fatalf("operation %d: threads %d and %d use slots near %d", i, o, op.Thread, op.Slot)
			}
			owner[op.Slot/slotPad] = op.Thread
			if i >= tape.Initial && int(op.Thread) != (i-tape.Initial)%threads {
				t.Fatalf("operation %d is thread %d's", i, op.Thread)
			}
		}
	}
}

// TestDistributionIsSteady compares, for each class, births and the mean number of live blocks with
// the distribution. Tolerances are six standard deviations, so that the seed is not the reason for
// a failure.
func TestDistributionIsSteady(t *testing.T) {
	for _, threads := range []int{1, 4} {
		steady(t, webDistribution(t), TapeOptions{Ops: 400_000, LiveBytes: 4 << 20, Threads: threads, Seed: 7})
	}
	steady(t, Distribution{"all of it", []Class{{16, 100, 5000}, {1 << 20, 1, 0.5}, {100, 3, 0}, {50, 0, 70}}},
		TapeOptions{Ops: 400_000, Seed: 7})
	steady(t, Distribution{"scaled and clipped", []Class{{16, 1, 1e6}, {64, 30, 0.25}, {1 << 40, 1, 0.001}}},
		TapeOptions{Ops: 400_000, Scale: 0.001, MaxSize: 1000, Seed: 7})
}

func steady(t *testing.T, d Distribution, o TapeOptions) {
	t.Helper()
	tape := mustTape(t, d, o)
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	scale, err := d.scale(o)
	if err != nil {
		t.Fatal(err)
	}
	if o.Scale > 0 && scale != o.Scale {
		t.Errorf("%s: scale %g, want %g", d.Name, scale, o.Scale)
	}

	class := map[uint64]int{} // by size
	rates, bytes := 0.0, 0.0
	for i, c := range d.Classes {
		class[min(c.Size, o.MaxSize)] = i
		rates += c.Rate
		bytes += c.Live * scale * float64(min(c.Size, o.MaxSize))
	}
	if o.Scale == 0 && bytes > 1.0001*float64(o.LiveBytes) {
		t.Errorf("%s: %g bytes expected live, want %d", d.Name, bytes, o.LiveBytes)
	}
	births, live, sum := make([]float64, len(d.Classes)), make([]float64, len(d.Classes)), make([]float64, len(d.Classes))
	changed := make([]int, len(d.Classes)) // the operation since which live has been the number
	holds := map[uint32]int{}              // class, by slot
	count := func(i, c, change int) {
		sum[c] += live[c] * float64(max(i, tape.Initial)-max(changed[c], tape.Initial))
		live[c] += float64(change)
		changed[c] = i
	}
	for i, op := range tape.Ops {
		if i == tape.Initial {
			for c := range d.Classes {
				if want := d.Classes[c].Live * scale; math.Abs(live[c]-want) > float64(o.Threads) {
					t.Errorf("%s: %g initial blocks of class %d, want %g", d.Name, live[c], c, want)
				}
			}
		}
		if op.Kind == Free {
			count(i, holds[op.Slot], -1)
			continue
		}
		c := class[op.Size]
		holds[op.Slot] = c
		count(i, c, 1)
		if i >= tape.Initial {
			births[c]++
		}
	}
	n := float64(o.Ops)
	for c, want := range d.Classes {
		count(len(tape.Ops), c, 0)
		expected := want.Rate / rates * n / 2 // half of the operations are births
		if math.Abs(births[c]-expected) > 6*math.Sqrt(expected)+1 {
			t.Errorf("%s: %g births of class %d, want %g", d.Name, births[c], c, expected)
		}
		// The variance of the number of live blocks is its mean. The variance of its mean over a
		// time is that, divided by the number of independent samples in the time: 2 lifetimes make
		// one. And as time is counted in operations, each block lives for at least one, the one of
		// its death.
		mean := want.Live * scale
		lifetimes := 1.0
		if mean > 0 {
			lifetimes = max(1, expected/mean/2)
		}
		if got := sum[c] / n; math.Abs(got-mean) > 6*math.Sqrt(mean/lifetimes)+1.1*expected/n {
			t.Errorf("%s: %g blocks of class %d live, want %g", d.Name, got, c, mean)
		}
	}
}

// TestDistributionTapeIsFixed has hashes of tapes: a machine or version that makes different tapes
// measures something else.
func TestDistributionTapeIsFixed(t *testing.T) {
	d := webDistribution(t)
	hash := func(o TapeOptions) string {
		return fmt.Sprintf("%x", sha256.Sum256(encoded(t, mustTape(t, d, o))))[:16]
	}
	one := TapeOptions{Ops: 10_000, LiveBytes: 1 << 20}
	two := TapeOptions{Ops: 10_000, LiveBytes: 1 << 20, Threads: 2, Seed: 1}
	if got := hash(one) + " " + hash(two); got != "17803f63cdf91291 324fa09de77a5a92" {
		t.Errorf("hashes %s: if that is meant, measurements before and after do not compare", got)
	}
}
