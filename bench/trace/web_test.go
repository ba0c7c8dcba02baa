package trace

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/web.csv")

// TestWeb makes up testdata/web.csv: a server that handles requests and keeps a cache. No program
// was measured for it. Each component's sizes are log-normal, about a median in bytes, with a
// deviation of their logarithm. Each component has a share of the million allocations in a second,
// and its blocks live for a number of seconds.
func TestWeb(t *testing.T) {
	components := []struct {
		share, median, deviation, seconds float64
	}{
		{0.795, 40, 0.75, 0.6},    // objects, strings: of requests
		{0.08, 72, 0.9, 30},       // entries of the cache
		{0.11, 360, 0.9, 0.4},     // headers, parsed values
		{0.0135, 4200, 0.8, 0.5},  // buffers of connections
		{0.0015, 40000, 1.2, 2.4}, // bodies, images
	}
	// Three sizes for each doubling, from 8 bytes to 6.3 MiB.
	const rows, first, perDoubling = 60, 8, 3
	var s bytes.Buffer
	s.WriteString("# A server that handles requests and keeps a cache. Synthetic: made up by TestWeb\n" +
		"# from log-normal distributions, measured nowhere. Allocations per second, blocks.\n" +
		"size, rate, live\n")
	for i := range rows {
		size := math.Round(first * math.Exp2(float64(i)/perDoubling))
		rate, live := 0.0, 0.0
		for _, c := range components {
			z := math.Log(size/c.median) / c.deviation
			density := math.Exp(-z*z/2) / (c.deviation * math.Sqrt(2*math.Pi))
			r := 1e6 * c.share * density * math.Ln2 / perDoubling
			rate += r
			live += r * c.seconds
		}
		// Three digits: more would differ where math has other last bits.
		fmt.Fprintf(&s, "%.0f, %.3g, %.3g\n", size, rate, live)
	}
	if *update {
		if err := os.WriteFile("testdata/web.csv", s.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("testdata/web.csv is rewritten")
	}
	if !bytes.Equal(s.Bytes(), web) {
		t.Error("testdata/web.csv is not what this test makes up: run it with -update")
	}

	d, err := Builtin("web")
	if err != nil {
		t.Fatal(err)
	}
	var blocks, rate, kilo, live, large float64
	for _, c := range d.Classes {
		blocks += c.Live
		rate += c.Rate
		live += c.Live * float64(c.Size)
		if c.Size <= 1024 {
			kilo += c.Rate
		}
		if c.Size > 32<<10 {
			large += c.Live * float64(c.Size)
		}
	}
	t.Logf("%d classes, %.3g allocations per second, %.3g %% up to 1 KiB; %.3g blocks of %.3g MiB live, %.3g %% of that above 32 KiB",
		len(d.Classes), rate, 100*kilo/rate, blocks, live/(1<<20), 100*large/live)
	if large < 0.2*live || large > 0.5*live || kilo < 0.9*rate {
		t.Error("the mix does not look like a server's")
	}
}
