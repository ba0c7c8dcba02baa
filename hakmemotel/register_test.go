package hakmemotel

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unsafe"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/export"
)

// collected is a metric as the SDK has it.
type collected struct {
	unit, kind string
	values     map[string]float64 // by "[{hakmem.class 16}]"
}

// collect reads all metrics of a reader.
func collect(t *testing.T, r *sdk.ManualReader) map[string]collected {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := r.Collect(context.Background(), &data); err != nil {
		t.Fatal(err)
	}
	all := map[string]collected{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			c := collected{unit: m.Unit, values: map[string]float64{}}
			var points []metricdata.DataPoint[float64]
			switch d := m.Data.(type) {
			case metricdata.Gauge[float64]:
				c.kind, points = "gauge", d.DataPoints
			case metricdata.Sum[float64]:
				c.kind, points = fmt.Sprint("sum, monotonic ", d.IsMonotonic), d.DataPoints
			default:
				t.Fatalf("%s is a %T", m.Name, m.Data)
			}
			for _, p := range points {
				var labels []string
				for _, a := range p.Attributes.ToSlice() {
					labels = append(labels, fmt.Sprintf("{%s %s}", a.Key, a.Value.AsString()))
				}
				c.values[strings.Join(labels, "")] = p.Value
			}
			if _, twice := all[m.Name]; twice || m.Description == "" {
				t.Errorf("%s is there twice, or has no description", m.Name)
			}
			all[m.Name] = c
		}
	}
	return all
}

// TestRegister: each figure arrives with its unit, kind, attributes and value, until Unregister.
func TestRegister(t *testing.T) {
	reader := sdk.NewManualReader()
	registration, err := Register(sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	p := hakmem.MallocAt(hakmem.RegisterSite("otel"), 1000)
	defer hakmem.Free(p)
	all := collect(t, reader)
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	for f := range s.Figures() {
		labels := ""
		for _, l := range f.Labels {
			labels += fmt.Sprintf("{hakmem.%s %s}", l.Name, l.Value)
		}
		if _, ok := all[nameOf(f)].values[labels]; !ok {
			t.Errorf("%s %s is missing", nameOf(f), labels)
		}
	}
	usable := float64(hakmem.UsableSize(p))
	for _, x := range []struct{ name, unit, kind, labels string }{
		{"hakmem.live", "By", "sum, monotonic false", ""},
		{"hakmem.drains", "{drain}", "sum, monotonic true", ""},
		{"hakmem.class.live_blocks", "{block}", "sum, monotonic false", "{hakmem.class 16}"},
		{"hakmem.class.misses", "{miss}", "sum, monotonic true", "{hakmem.class 16}"},
		{"hakmem.site.live", "By", "sum, monotonic false", "{hakmem.site otel}"},
		{"hakmem.large_cache_hits", "{hit}", "sum, monotonic true", "{hakmem.cache huge}"},
		{"hakmem.scavenger_hold_time", "s", "gauge", ""},
		{"hakmem.scavenger_running", "1", "gauge", ""},
		{"hakmem.budget_scarcity", "1", "gauge", ""},
		{"hakmem.stage_partial_searches", "{search}", "sum, monotonic true", ""},
		{"hakmem.class.flushes", "{flush}", "sum, monotonic true", "{hakmem.class 16}"},
	} {
		c := all[x.name]
		if _, ok := c.values[x.labels]; !ok || c.unit != x.unit || c.kind != x.kind {
			t.Errorf("%s is %+v, want %+v", x.name, c, x)
		}
	}
	if got := all["hakmem.site.live"].values["{hakmem.site otel}"]; got != usable {
		t.Errorf("the site has %v live bytes, want %v", got, usable)
	}
	if got := all["hakmem.live"].values[""]; got < usable {
		t.Errorf("%v live bytes", got)
	}
	if err := registration.Unregister(); err != nil {
		t.Fatal(err)
	}
	if all := collect(t, reader); len(all) > 0 {
		t.Errorf("%d metrics after Unregister", len(all))
	}
}

// TestManySites: sites beyond the hundred largest are one.
func TestManySites(t *testing.T) {
	reader := sdk.NewManualReader()
	registration, err := Register(sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	defer registration.Unregister()
	var blocks []unsafe.Pointer
	for i := range 150 {
		blocks = append(blocks, hakmem.MallocAt(hakmem.RegisterSite(fmt.Sprint("site ", i)), 64))
	}
	sites := collect(t, reader)["hakmem.site.live"].values
	if _, other := sites["{hakmem.site other}"]; len(sites) != export.DefaultSites+1 || !other {
		t.Errorf("%d sites, other among them: %t", len(sites), other)
	}
	for _, p := range blocks {
		hakmem.Free(p)
	}
}

// TestNames: names are as the conventions want them, no two are the same, and none is the namespace of another.
func TestNames(t *testing.T) {
	valid := regexp.MustCompile(`^hakmem(\.[a-z][a-z0-9_]*)+$`)
	unit := regexp.MustCompile(`^(By|s|1|\{[a-z]+[^s]\}|\{miss\})$`)
	names := map[string]bool{}
	for _, f := range export.Names() {
		name := nameOf(f)
		if names[name] || !valid.MatchString(name) || !unit.MatchString(unitOf(f)) {
			t.Errorf("%s is %s in %s, and that name was there before: %t", f.Name, name, unitOf(f), names[name])
		}
		names[name] = true
		for _, bad := range []string{"_total", "_bytes", "_seconds", "_ratio"} {
			if strings.HasSuffix(name, bad) {
				t.Errorf("%s has %s in it", name, bad)
			}
		}
	}
	for name := range names {
		for other := range names {
			if strings.HasPrefix(other, name+".") {
				t.Errorf("%s is the namespace of %s", name, other)
			}
		}
	}
}

// refusing is a meter that refuses counters.
type refusing struct{ noop.Meter }

var errRefused = errors.New("refused")

func (refusing) Float64ObservableCounter(string, ...metric.Float64ObservableCounterOption) (metric.Float64ObservableCounter, error) {
	return nil, errRefused
}

func TestRegisterRefused(t *testing.T) {
	if _, err := Register(refusing{}); !errors.Is(err, errRefused) {
		t.Errorf("error %v, want that of the meter", err)
	}
}
