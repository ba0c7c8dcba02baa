package hakmem_test

import (
	"fmt"

	"github.com/hakmem/hakmem"
)

// An exporter needs no list of the figures. This one writes what Prometheus reads, for the figures
// of one site.
func ExampleStats_Figures() {
	site := hakmem.RegisterSite("word index")
	p := hakmem.MallocAt(site, 100)
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	for f := range s.Figures() {
		if len(f.Labels) == 0 || f.Labels[0].Value != "word index" || f.Unit != "blocks" {
			continue
		}
		fmt.Printf("# HELP hakmem_%s %s\n", f.Name, f.Help)
		fmt.Printf("# TYPE hakmem_%s %s\n", f.Name, f.Kind)
		fmt.Printf("hakmem_%s{%s=%q} %v\n", f.Name, f.Labels[0].Name, f.Labels[0].Value, f.Value)
	}
	hakmem.Free(p)
	// Output:
	// # HELP hakmem_site_live_blocks The number of the site's blocks handed out and not yet freed.
	// # TYPE hakmem_site_live_blocks gauge
	// hakmem_site_live_blocks{site="word index"} 1
	// # HELP hakmem_site_live_one_in_blocks The number of blocks of which one counts for the site, drawn at random.
	// # TYPE hakmem_site_live_one_in_blocks gauge
	// hakmem_site_live_one_in_blocks{site="word index"} 1
}
