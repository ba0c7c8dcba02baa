package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// comparison is a program that does the same in several variants.
type comparison struct {
	name     string
	program  string // its directory below programs
	size     string // what the full size is
	loads    []int  // numbers of goroutines; each is measured for itself
	later    time.Duration
	prepares bool // whether the program makes files for its variants first
	variants []variant
}

// variant is a way to do it. The first is what is used today.
type variant struct {
	name     string
	module   string // whose version the table has; empty: Go
	replaced bool   // whether the program has hakmem's adapter in the place of modernc.org/memory
}

const (
	ofTree        = ours
	sqliteModule  = "modernc.org/sqlite"
	arrowModule   = "github.com/apache/arrow-go/v18"
	memoryModule  = "modernc.org/memory"
	memoryAdapter = "adapters/moderncmemory"
	fastcacheName = "github.com/VictoriaMetrics/fastcache"
)

// comparisons is every comparison there is. hakmem returns free memory within 5 to 10 s, except for a part that it
// keeps. Go's runtime returns memory later than that, and only what a collection has found to be free: that is why
// the table has a column for what is left when the program asks for both, by debug.FreeOSMemory.
func comparisons() []comparison {
	all := []int{runtime.GOMAXPROCS(0)}
	return []comparison{
		{
			name: "sqlite", program: "sqlite", size: "200,000 rows in memory: insert, read, update, sort and scan, VACUUM",
			loads: []int{1, 4}, later: 10 * time.Second,
			variants: []variant{{"SQLite's own", memoryModule, false}, {"adapters/moderncmemory", ofTree, true}},
		},
		{
			name: "sqlite-pagecache", program: "sqlite", size: "400,000 reads of a file with 200,000 rows, 128 MiB of cache for each reader",
			loads: []int{1, 2, 4}, later: 5 * time.Second, prepares: true,
			variants: []variant{
				{"SQLite's own", sqliteModule, false}, {"modernc.org/sqlite/pcache", sqliteModule, false},
				{"adapters/sqlite", ofTree, false}, {"adapters/sqlite and moderncmemory", ofTree, true},
			},
		},
		{
			name: "arrow", program: "arrow", size: "10^7 rows of a number, a value that may be null and a text: build, filter, sum",
			loads: []int{1}, later: 5 * time.Second,
			variants: []variant{{"Go's heap", arrowModule, false}, {"adapters/arrow", ofTree, false}},
		},
		{
			name: "fastcache", program: "fastcache", size: "512 MiB of cache, 6,000,000 entries of 116 bytes: set, get twice",
			loads: all, later: 5 * time.Second,
			variants: []variant{{"fastcache", fastcacheName, false}, {"adapters/fastcache", ofTree, false}},
		},
		{
			name: "map", program: "maps", size: "10^7 entries of uint64 and uint64: insert, look up twice, delete and insert",
			loads: []int{1}, later: 5 * time.Second,
			variants: []variant{
				{"Go's map", "", false}, {"cockroachdb/swiss", "github.com/cockroachdb/swiss", false},
				{"cockroachdb/swiss, adapters/swiss", ofTree, false},
				{"offheap.Map", ofTree, false}, {"offheap.Map, governor", ofTree, false},
			},
		},
		{
			name: "cache", program: "cache", size: "1 GiB for each cache, 5,000,000 operations after half as many that are not measured",
			loads: all, later: 5 * time.Second,
			variants: []variant{
				{"ristretto", "github.com/dgraph-io/ristretto/v2", false}, {"otter", "github.com/maypok86/otter/v2", false},
				{"bigcache", "github.com/allegro/bigcache/v3", false}, {"freecache", "github.com/coocood/freecache", false},
				{"fastcache", fastcacheName, false}, {"hakmem/cache", ofTree, false},
			},
		},
	}
}

func comparisonNames() (names []string) {
	for _, c := range comparisons() {
		names = append(names, c.name)
	}
	return names
}

// find returns the comparison of a name.
func find(name string) (comparison, error) {
	for _, c := range comparisons() {
		if c.name == name {
			return c, nil
		}
	}
	names := strings.Join(comparisonNames(), ", ")
	if name == "" {
		return comparison{}, fmt.Errorf("no comparison is named: choose one of %s", names)
	}
	return comparison{}, fmt.Errorf("there is no comparison %q: choose one of %s", name, names)
}

// choose leaves only the named variants, in the order of their names.
func (c *comparison) choose(names string) error {
	if names == "all" {
		return nil
	}
	var chosen []variant
	for name := range strings.SplitSeq(names, ",") {
		is := func(v variant) bool { return v.name == name }
		i := slices.IndexFunc(c.variants, is)
		if i < 0 {
			var all []string
			for _, v := range c.variants {
				all = append(all, fmt.Sprintf("%q", v.name))
			}
			return fmt.Errorf("-variants: %s has no variant %q: choose of %s", c.name, name, strings.Join(all, ", "))
		}
		if slices.ContainsFunc(chosen, is) {
			return fmt.Errorf("-variants: %q is named twice", name)
		}
		chosen = append(chosen, c.variants[i])
	}
	c.variants = chosen
	return nil
}
