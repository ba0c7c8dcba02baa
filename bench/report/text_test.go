package report

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func TestTexts(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{figure(0), notKnown}, {figure(-1), notKnown}, {figure(math.NaN()), notKnown}, {figure(math.Inf(1)), notKnown},
		{figure(0.00004), "4.0e-05"}, {figure(0.0123), "0.012"}, {figure(9.208), "9.21"}, {figure(99.96), "100"}, {figure(1234.5), "1234"}, {figure(2e9), "2.00e+09"},
		{times(0.5), "0.50×"}, {times(0), notKnown},
		{nanos(0.25), "0.25 ns"}, {nanos(9.5), "9.5 ns"}, {nanos(21), "21 ns"}, {nanos(1500), "1.5 µs"}, {nanos(2e6), "2 ms"}, {nanos(3e12), "3000 s"},
		{size(0), notKnown}, {size(1000), "1000 B"}, {size(1536), "1.5 KiB"}, {size(64 << 20), "64 MiB"},
		{signedSize(0), "0 B"}, {signedSize(-40960), "−40 KiB"},
		{percentile(0), "0"}, {percentile(math.Log10(2)), "50"}, {percentile(1), "90"}, {percentile(2), "99"}, {percentile(3), "99.9"}, {percentile(6), "99.9999"},
		{count(1, "run", "runs"), "1 run"}, {count(2, "run", "runs"), "2 runs"},
		{Shell(nil), ""}, {Shell([]string{"a", "", "b c", "it's", "--x=1,2"}), `a '' 'b c' 'it'\''s' --x=1,2`},
		{clip("näme", 4), "näme"}, {clip("nämen", 4), "näm…"},
		{px(-0.01).String(), "0"}, {px(1.25).String(), "1.3"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}

func TestLogTicks(t *testing.T) {
	for _, test := range []struct {
		lo, hi float64
		want   []float64
	}{
		{0.8, 1.25, []float64{0.8, 0.9, 1, 1.1, 1.2}},
		{0.5, 5, []float64{0.5, 1, 2, 5}},
		{0.01, 100, []float64{0.01, 0.1, 1, 10, 100}},
		{1e-9, 1e18, []float64{1e-8, 1e-4, 1, 1e4, 1e8, 1e12, 1e16}},
	} {
		s := scale{lo: test.lo, hi: test.hi, from: 0, to: 264, log: true}
		got := logTicks(s, 34)
		if !slices.Equal(got, test.want) {
			t.Errorf("%v to %v: %v, want %v", test.lo, test.hi, got, test.want)
		}
	}
}

func TestLinearTicks(t *testing.T) {
	for _, test := range []struct {
		hi, unit float64
		want     string
	}{
		{10, 1, "[0 2 4 6 8 10]"},
		{0.47, 1, "[0 0.1 0.2 0.30000000000000004 0.4]"},
		{4.5 * 1024, 1024, "[0 1024 2048 3072 4096]"},
	} {
		if got := fmt.Sprint(linearTicks(test.hi, test.unit, 5)); got != test.want {
			t.Errorf("to %v by %v: %s, want %s", test.hi, test.unit, got, test.want)
		}
	}
}

func TestScale(t *testing.T) {
	log := scale{lo: 0.1, hi: 10, from: 100, to: 300, log: true}
	up := scale{lo: 0, hi: 4, from: 200, to: 0} // as y axes go
	for _, test := range []struct {
		got, want px
	}{
		{log.at(1), 200}, {log.at(0.1), 100}, {log.at(10), 300}, {log.at(0), 100}, {log.at(1e9), 300},
		{up.at(0), 200}, {up.at(1), 150}, {up.at(9), 0}, {up.at(-1), 200},
	} {
		if test.got.String() != test.want.String() {
			t.Errorf("%v, want %v", test.got, test.want)
		}
	}
}

// Every allocator looks different, and the usual ones always the same.
func TestStyles(t *testing.T) {
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("allocator%d", i))
	}
	styles, alone := makeStyles(append(names, "glibc")), makeStyles(nil)
	seen := map[style]string{}
	for name, s := range styles {
		if other, ok := seen[s]; ok {
			t.Errorf("%s and %s look the same", name, other)
		}
		seen[s] = name
	}
	if styles["glibc"] != alone["glibc"] {
		t.Errorf("glibc is %v among others and %v alone", styles["glibc"], alone["glibc"])
	}
}
