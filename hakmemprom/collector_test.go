package hakmemprom

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hakmem/hakmem"
)

// TestLint: the names, units and help texts are as Prometheus wants them.
func TestLint(t *testing.T) {
	hakmem.RegisterSite("lint")
	problems, err := testutil.CollectAndLint(NewCollector(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// gathered returns the values by "name{label=value}", as a registry that checks them collects them.
func gathered(t *testing.T, o Options) (values, counters map[string]float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(NewCollector(o))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values, counters = map[string]float64{}, map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += fmt.Sprintf("{%s=%s}", l.GetName(), l.GetValue())
			}
			if m.GetCounter() != nil {
				counters[key] = m.GetCounter().GetValue()
				values[key] = counters[key]
				continue
			}
			values[key] = m.GetGauge().GetValue()
		}
	}
	return values, counters
}

// TestCollect: each figure is there with its value, kind and labels.
func TestCollect(t *testing.T) {
	site := hakmem.RegisterSite("collect")
	p := hakmem.MallocAt(site, 1000)
	defer hakmem.Free(p)
	hakmem.RegisterSite("not UTF-8: \xff")
	values, counters := gathered(t, Options{})
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	n := 0
	for f := range s.Figures() {
		n++
		key := prefix + f.Name
		for _, l := range f.Labels {
			value := l.Value
			if strings.HasPrefix(value, "not UTF-8") {
				value = `"not UTF-8: \xff"`
			}
			key += fmt.Sprintf("{%s=%s}", l.Name, value)
		}
		if _, ok := values[key]; !ok {
			t.Errorf("%s is missing", key)
		}
		if _, counter := counters[key]; counter != (f.Kind == hakmem.Counter) {
			t.Errorf("%s is a counter: %t, and its kind is %s", key, counter, f.Kind)
		}
	}
	if n != len(values) {
		t.Errorf("%d metrics, and %d figures", len(values), n)
	}
	if got, want := values["hakmem_site_live_bytes{site=collect}"], float64(hakmem.UsableSize(p)); got != want {
		t.Errorf("the site has %v live bytes, want %v", got, want)
	}
	if got := values["hakmem_live_bytes"]; got < 1000 {
		t.Errorf("%v live bytes", got)
	}
}

// TestMaxSites: the largest sites are named, and the others are one.
func TestMaxSites(t *testing.T) {
	var blocks []unsafe.Pointer
	sum := 0.0
	for i := range 120 {
		size := uintptr(i+1) << 10
		if i == 119 {
			size = 1 << 20 // no other block has this size class
		}
		p := hakmem.MallocAt(hakmem.RegisterSite(fmt.Sprint("site ", i)), size)
		blocks = append(blocks, p)
		sum += float64(hakmem.UsableSize(p))
	}
	defer func() {
		for _, p := range blocks {
			hakmem.Free(p)
		}
	}()
	for _, x := range []struct{ most, want int }{{0, 101}, {3, 4}, {-1, 1}, {1000, 1000}} {
		values, _ := gathered(t, Options{MaxSites: x.most})
		n, all := 0, 0.0
		for key, v := range values {
			if strings.HasPrefix(key, "hakmem_site_live_bytes{") {
				n++
				all += v
			}
		}
		_, other := values["hakmem_site_live_bytes{site=other}"]
		_, largest := values["hakmem_site_live_bytes{site=site 119}"]
		if x.most == 1000 { // more than there are
			x.want = len(blocks)
			if n < x.want || other || all != sum {
				t.Errorf("MaxSites %d: %d sites, other %t, %v bytes, want %v", x.most, n, other, all, sum)
			}
			continue
		}
		if n != x.want || !other || largest != (x.most >= 0) || all != sum {
			t.Errorf("MaxSites %d: %d sites, want %d; other %t, the largest %t; %v bytes, want %v", x.most, n, x.want, other, largest, all, sum)
		}
	}
}

// TestConcurrentScrapes: scrapes do not meet in what a collector keeps.
func TestConcurrentScrapes(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(NewCollector(Options{}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if _, err := r.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkScrape collects all metrics while a GiB of blocks is live: small ones of 256 bytes, and large ones
// of a MiB. All of them are resident.
func BenchmarkScrape(b *testing.B) {
	for _, size := range []uintptr{256, 1 << 20} {
		b.Run(fmt.Sprint("blocks of ", size), func(b *testing.B) {
			const all = 1 << 30
			blocks := make([]unsafe.Pointer, all/size)
			for i := range blocks {
				blocks[i] = hakmem.Malloc(size)
				for at := uintptr(0); at < size; at += 4096 {
					*(*byte)(unsafe.Add(blocks[i], at)) = 1
				}
			}
			r := prometheus.NewRegistry()
			r.MustRegister(NewCollector(Options{}))
			for b.Loop() {
				if _, err := r.Gather(); err != nil {
					b.Fatal(err)
				}
			}
			for _, p := range blocks {
				hakmem.Free(p)
			}
			hakmem.Trim()
		})
	}
}
