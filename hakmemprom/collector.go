// Package hakmemprom exports the statistics of hakmem to Prometheus:
//
//	prometheus.MustRegister(hakmemprom.NewCollector(hakmemprom.Options{}))
//
// Importing it registers nothing. dashboard.json, next to this file, is a Grafana dashboard of these metrics.
package hakmemprom

import (
	"cmp"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/export"
)

// Options says what a collector exports. The zero Options are the defaults.
type Options struct {
	// MaxSites is how many sites have time series of their own, three for each: those with the most live
	// bytes at the moment of the scrape. The rest are added up as the site "other", in which every block of
	// sites that are sampled (HAKMEM_SITES=pc) is counted by an estimate. 0 stands for 100; below 0 no site
	// is named.
	MaxSites int
}

// prefix stands before the name of each figure.
const prefix = "hakmem_"

// collector is what NewCollector returns.
type collector struct {
	reader   export.Reader
	maxSites export.MaxSites
	metrics  map[string]metric // by the name of the figure
}

// metric is what does not change of a metric.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// NewCollector returns a collector of all figures of hakmem.Stats. A metric has the figure's name, with
// hakmem_ before it, and its help text, kind and labels. (Names are in hakmem's stats.go; sizes are in bytes,
// times in seconds.)
//
// A scrape costs what hakmem.ReadStats costs, about 1 ms for each GiB in use, and about a millisecond for the
// metrics. Scrapes may run concurrently; they wait for each other. Register a collector once: two of them have the
// same metrics.
func NewCollector(o Options) prometheus.Collector {
	c := &collector{maxSites: export.MaxSites(cmp.Or(o.MaxSites, export.DefaultSites)), metrics: map[string]metric{}}
	for _, f := range export.Names() {
		var labels []string
		for _, l := range f.Labels {
			labels = append(labels, l.Name)
		}
		kind := prometheus.GaugeValue
		if f.Kind == hakmem.Counter {
			kind = prometheus.CounterValue
		}
		c.metrics[f.Name] = metric{prometheus.NewDesc(prefix+f.Name, f.Help, labels, nil), kind}
	}
	return c
}

// Describe sends the description of each metric.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		to <- m.desc
	}
}

// Collect reads the statistics and sends each figure.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.reader.Each(c.maxSites, func(f hakmem.Figure) bool {
		m := c.metrics[f.Name]
		values := make([]string, len(f.Labels))
		for i, l := range f.Labels {
			values[i] = l.Value
			if !utf8.ValidString(l.Value) { // the name of a site; Prometheus would refuse it
				values[i] = strconv.Quote(l.Value)
			}
		}
		to <- prometheus.MustNewConstMetric(m.desc, m.kind, f.Value, values...)
		return true
	})
}
