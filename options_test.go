package hakmem_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of the HAKMEM_ variables (the settings) and of Configure. Each case runs in a process of its
// own, because a process reads the variables once.

var _ = testkit.Child("setting", settingInForce)

// settingInForce does a little work with the variables that the environment sets.
func settingInForce(arg string) error {
	for i := range policy.All() {
		g := &policy.All()[i]
		want, set := os.LookupEnv(g.Name)
		if set && g.Value(policy.Current()) != want && g.Name != arg {
			return fmt.Errorf("%s = %s, want %s", g.Name, g.Value(policy.Current()), want)
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for g := range uint64(4) {
		wg.Go(func() {
			for seed := range uint64(2) {
				n, err := workout.Work(seed*10+g, 8<<20, 1)
				if n != 0 {
					err = fmt.Errorf("allocation failed: %w", hakmem.Err())
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		})
	}
	wg.Wait()
	for range 4 {
		if err := <-errs; err != nil {
			return err
		}
	}
	// Many blocks of one class: whole magazines, several slabs, and flushes.
	for _, k := range workout.Kinds {
		var ps []unsafe.Pointer
		for range min(20_000, 16<<20/k.Size) {
			p := hakmem.Malloc(k.Size)
			if p == nil {
				return fmt.Errorf("block %d of %d bytes = nil: %w", len(ps), k.Size, hakmem.Err())
			}
			ps = append(ps, p)
		}
		for _, p := range ps {
			hakmem.Free(p)
		}
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	return workout.NothingLost()
}

// TestSettingExtremes sets every variable to both ends of its range, and to values within the range
// that nobody would choose.
func TestSettingExtremes(t *testing.T) {
	odd := map[string][]string{
		"HAKMEM_COMMIT_MIN":   {"2097153", "3000000"},
		"HAKMEM_COMMIT_MAX":   {"2097153", "5000000"},
		"HAKMEM_REGION_BYTES": {"268435457", "300000000"},
		"HAKMEM_REFILL":       {"3", "63"},
		"HAKMEM_MAG_BLOCKS":   {"3"},
		"HAKMEM_MAG_BYTES":    {"1"},
	}
	for _, g := range policy.All() {
		var values []string
		switch g.Kind {
		case policy.Switch:
			values = []string{"0", "1"}
		case policy.Number:
			values = append(odd[g.Name], strconv.FormatInt(g.Min, 10), strconv.FormatInt(g.Max, 10))
			if testing.Short() {
				values = values[:1]
			}
		case policy.Decimal:
			values = []string{fmt.Sprint(float64(g.Min) / 1000), fmt.Sprint(float64(g.Max) / 1000)}
		case policy.Choice:
			values = g.Choices
		}
		for _, v := range values {
			settings := []string{g.Name + "=" + v}
			if g.Name == "HAKMEM_COMMIT_MIN" && v == strconv.FormatInt(g.Max, 10) {
				settings = append(settings, "HAKMEM_COMMIT_MAX="+v) // not below the first
			}
			testkit.InChild(t, "setting", "", settings...)
		}
	}
	for _, v := range []string{"on", "off", "ON", "Off"} {
		testkit.InChild(t, "setting", "HAKMEM_EMPTY_REUSE", "HAKMEM_EMPTY_REUSE="+v)
	}
	// The smallest value of everything at once, then the largest.
	testkit.InChild(t, "setting", "", "HAKMEM_MAG_BLOCKS=2", "HAKMEM_MAG_BYTES=0", "HAKMEM_MAG_MID_BLOCKS=2", "HAKMEM_MAG_MID_BYTES=0", "HAKMEM_MAG_GROW_BYTES=0", "HAKMEM_REFILL=1", "HAKMEM_EMPTY_SCAN_LIMIT=1", "HAKMEM_COMMIT_MAX=2097152", workout.SmallRegion)
	testkit.InChild(t, "setting", "", "HAKMEM_MAG_BLOCKS=1023", "HAKMEM_MAG_GROW_BYTES=1073741824", "HAKMEM_MAG_BYTES=1073741824", "HAKMEM_MAG_MID_BLOCKS=127", "HAKMEM_MAG_MID_BYTES=1073741824", "HAKMEM_REFILL=127", "HAKMEM_EMPTY_SCAN_LIMIT=1048576", "HAKMEM_EMPTY_MIN_KEEP=1048576")
	testkit.InChild(t, "setting", "", "HAKMEM_EMPTY_REUSE=0", "HAKMEM_EMPTY_FIRST=1", "HAKMEM_FAST_SECTION=0")
	testkit.InChild(t, "setting", "", "HAKMEM_EMPTY_FIRST=1", "HAKMEM_MODE=minimal")
}

var _ = testkit.Child("malformed settings", malformedSettings)

// malformedSettings runs with every variable of the environment malformed. Each must be reported, and
// the defaults must be in force.
func malformedSettings(string) error {
	if n, err := workout.Work(1, 8<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w", n, err)
	}
	set := 0
	err := hakmem.Err()
	for i := range policy.All() {
		g := &policy.All()[i]
		if value, ok := os.LookupEnv(g.Name); ok {
			set++
			if text := fmt.Sprint(err); !strings.Contains(text, g.Name+":") || !strings.Contains(text, strconv.Quote(value)) {
				return fmt.Errorf("Err() = %w, want it to name %s and %q", err, g.Name, value)
			}
		}
		if got := g.Value(policy.Current()); got != g.Default {
			return fmt.Errorf("%s = %s, want the default %s", g.Name, got, g.Default)
		}
	}
	if s := workout.ReadStats(); len(s.Errors) != set {
		return fmt.Errorf("Stats.Errors = %v, want %d", s.Errors, set)
	}
	return workout.NothingLost()
}

func TestMalformedSettings(t *testing.T) {
	bad := []string{"abc", "12x", "-1", "0x10", "1.5", " 1", "99999999999999999999999", "below", "above"}
	if testing.Short() {
		bad = bad[:1]
	}
	for _, v := range bad {
		var settings []string
		for _, g := range policy.All() {
			if g.Kind == policy.Text {
				continue // any value is valid
			}
			value := v
			switch {
			case v == "below" && g.Kind == policy.Number:
				value = strconv.FormatInt(g.Min-1, 10)
			case v == "above" && g.Kind == policy.Number:
				value = strconv.FormatInt(g.Max+1, 10)
			case v == "above" && g.Kind == policy.Switch:
				value = "2"
			case v == "1.5" && g.Kind == policy.Decimal:
				value = "1.2345"
			case slices.Contains(g.Choices, v):
				value = v + "1"
			}
			settings = append(settings, g.Name+"="+value)
		}
		testkit.InChild(t, "malformed settings", "", settings...)
	}
	testkit.InChild(t, "malformed settings", "", "HAKMEM_REFILL=on") // one alone
}

var _ = testkit.Child("configure", configure)

// configure checks that before the first allocation options override the environment, and that
// afterwards Configure returns an error.
func configure(string) error {
	// The environment has HAKMEM_REFILL=abc, HAKMEM_CAP_MID=32 and HAKMEM_DECAY_MS=77.
	for _, bad := range []struct {
		o    hakmem.Options
		name string
	}{
		{hakmem.Options{Refill: -1}, "HAKMEM_REFILL"},
		{hakmem.Options{Refill: 1000}, "HAKMEM_REFILL"},
		{hakmem.Options{RegionBytes: 1}, "HAKMEM_REGION_BYTES"},
		{hakmem.Options{Mode: "swift"}, "HAKMEM_MODE"},
		{hakmem.Options{EmptyReuse: 7}, "HAKMEM_EMPTY_REUSE"},
		{hakmem.Options{MagBlocks: 20, MagMidBlocks: 1}, "HAKMEM_MAG_MID_BLOCKS"},
	} {
		err := hakmem.Configure(bad.o)
		if err == nil || !strings.Contains(err.Error(), bad.name) {
			return fmt.Errorf("Configure(%+v) = %v, want an error that names %s", bad.o, err, bad.name)
		}
		if p := policy.Current(); p.MagBlocks == 20 || p.Mode == "swift" {
			return fmt.Errorf("Configure failed and changed something: %+v", *p)
		}
	}
	if err := hakmem.Configure(hakmem.Options{Mode: "minimal", MagMidBlocks: 8, MagBytes: 500, HugeCacheBytes: -1}); err != nil {
		return err
	}
	o := hakmem.Options{RegionBytes: 512 << 20, Refill: 5, EmptyReuse: hakmem.ToggleOff, FastSection: hakmem.ToggleOn, MagBytes: 1000}
	if err := hakmem.Configure(o); err != nil {
		return err
	}
	p := policy.Current()
	if p.RegionBytes != 512<<20 || p.Refill != 5 || p.EmptyReuse || !p.FastSection || p.MagBytes != 1000 {
		return fmt.Errorf("Configure(%+v) gave %+v", o, *p)
	}
	if p.MagMidBlocks != 8 || p.Mode != "minimal" || p.DecayMs != 77 || p.HugeCacheBytes != 0 {
		return fmt.Errorf("Configure forgot the environment, or an earlier Configure: %+v", *p)
	}
	if n, err := workout.Work(1, 8<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w", n, err)
	}
	if got := workout.ReadStats().Reserved; got != 512<<20 {
		return fmt.Errorf("reserved %d bytes, want 512 MiB", got)
	}
	for _, o := range []hakmem.Options{{}, {Refill: 6}} {
		if err := hakmem.Configure(o); !errors.Is(err, hakmem.ErrConfigured) {
			return fmt.Errorf("Configure after the first allocation = %v, want ErrConfigured", err)
		}
	}
	if p := policy.Current(); p.Refill != 5 {
		return fmt.Errorf("a late Configure changed Refill to %d", p.Refill)
	}
	return workout.NothingLost()
}

func TestConfigure(t *testing.T) {
	testkit.InChild(t, "configure", "", "HAKMEM_REFILL=abc", "HAKMEM_MAG_MID_BLOCKS=32", "HAKMEM_DECAY_MS=77")
}
