// Package export is what the exporters of statistics share: hakmemvar, hakmemprom, hakmemotel and hakmemhttp, and
// the command that reads what the last one sends. It adds to hakmem.Stats what a monitoring system asks for and
// a program does not: the list of figures before there is a value of each, a bound on the number of sites, and
// the message that a live page shows.
package export

import (
	"cmp"
	"reflect"
	"slices"
	"sync"

	"github.com/hakmem/hakmem"
)

// Names returns each figure once, by its name, in the order of hakmem.Stats. Its values are 0, and so are
// those of its labels: what counts is how a label is called. Any goroutine.
func Names() (figures []hakmem.Figure) {
	var s hakmem.Stats
	// One element of each slice, or the figures of its elements would be missing.
	for _, field := range reflect.ValueOf(&s).Elem().Fields() {
		if field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct {
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		}
	}
	seen := map[string]bool{}
	for f := range s.Figures() {
		if !seen[f.Name] {
			seen[f.Name] = true
			figures = append(figures, f)
		}
	}
	return figures
}

// DefaultSites is how many sites an exporter names unless the program says otherwise. A program that names its
// sites itself has fewer. One that takes callers as sites may have thousands (HAKMEM_SITES=pc), each of which
// would cost a monitoring system three time series.
const DefaultSites = 100

// OtherSites is the name under which the sites that have no place of their own are added up.
const OtherSites = "other"

// Reader reads the statistics again and again, without new Go memory for each reading. The zero Reader is
// ready for use. Any goroutine: readings wait for each other. It must not be copied.
type Reader struct {
	mu    sync.Mutex
	stats hakmem.Stats
}

// MaxSites is how many sites are named.
type MaxSites int

// Each reads the statistics and calls f for each figure, until f returns false. f must not use the Reader.
func (r *Reader) Each(most MaxSites, f func(hakmem.Figure) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hakmem.ReadStats(&r.stats)
	r.stats.Sites = bound(r.stats.Sites, most)
	for figure := range r.stats.Figures() {
		if !f(figure) {
			return
		}
	}
}

// Values are figures by their names: those without a label in Plain, and those with one in Labelled, by the
// label's value. They encode as JSON.
type Values struct {
	Plain    map[string]float64            `json:"plain"`
	Labelled map[string]map[string]float64 `json:"labelled"`
}

// Values reads the statistics.
func (r *Reader) Values(most MaxSites) Values {
	v := Values{map[string]float64{}, map[string]map[string]float64{}}
	r.Each(most, func(f hakmem.Figure) bool {
		if len(f.Labels) == 0 {
			v.Plain[f.Name] = f.Value
			return true
		}
		if v.Labelled[f.Name] == nil {
			v.Labelled[f.Name] = map[string]float64{}
		}
		v.Labelled[f.Name][f.Labels[0].Value] = f.Value // a figure has one label at most
		return true
	})
	return v
}

// bound leaves the sites with the most live bytes, most of them, and adds up the others, in place. Of a site
// of which one block in N counts, N times its figures are taken for it: to find the largest ones, and in the
// sum, where every block counts then. A site that is called other itself is part of the sum.
func bound(sites []hakmem.SiteStats, most MaxSites) []hakmem.SiteStats {
	n := max(0, int(most))
	if len(sites) <= n {
		return sites
	}
	slices.SortStableFunc(sites, func(x, y hakmem.SiteStats) int {
		return cmp.Compare(y.LiveBytes*y.OneIn, x.LiveBytes*x.OneIn)
	})
	sum := hakmem.SiteStats{Name: OtherSites, OneIn: 1}
	named := sites[:0]
	for i, s := range sites {
		if i < n && s.Name != OtherSites {
			named = append(named, s)
			continue
		}
		sum.LiveBytes += s.LiveBytes * s.OneIn
		sum.LiveBlocks += s.LiveBlocks * s.OneIn
	}
	return append(named, sum)
}
