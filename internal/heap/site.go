package heap

import (
	"sync"
	"sync/atomic"
)

// Sites: the label of a block's purpose. A block with a site has liveSited in
// its live state and its site in the site map, two bytes for each granule of
// the region, committed only when the first such block is made (and, for
// memory, touched only where such blocks start). Spans keep it in their first
// page's metadata.

// MaxSites is the number of sites there can be: what two bytes hold.
const MaxSites = 1<<16 - 1

// siteCount is what is alive of one site. A line of its own: two sites' frees
// must not slow each other.
type siteCount struct {
	bytes, blocks atomic.Int64
	_             [48]byte
}

var sites struct {
	mu     sync.Mutex
	names  []string
	byName map[string]uint32
	// counts[i] is site i+1's; grown by copying the slice of pointers.
	counts atomic.Pointer[[]*siteCount]
}

// RegisterSite returns the site of that name, making it if there is none, or 0
// when there are too many.
func RegisterSite(name string) uint32 {
	sites.mu.Lock()
	defer sites.mu.Unlock()
	if s, ok := sites.byName[name]; ok {
		return s
	}
	if len(sites.names) == MaxSites {
		return 0
	}
	if sites.byName == nil {
		sites.byName = map[string]uint32{}
	}
	sites.names = append(sites.names, name)
	s := uint32(len(sites.names))
	sites.byName[name] = s
	var counts []*siteCount
	if old := sites.counts.Load(); old != nil {
		counts = append(counts, *old...)
	}
	counts = append(counts, new(siteCount))
	sites.counts.Store(&counts)
	return s
}

// NumSites returns the number of registered sites; their numbers are 1..NumSites.
func NumSites() uint32 {
	sites.mu.Lock()
	defer sites.mu.Unlock()
	return uint32(len(sites.names))
}

// Site returns the name and the live figures of site s.
func Site(s uint32) (name string, bytes, blocks int64) {
	sites.mu.Lock()
	defer sites.mu.Unlock()
	n := (*sites.counts.Load())[s-1]
	return sites.names[s-1], n.bytes.Load(), n.blocks.Load()
}

func siteAdd(s uint32, bytes, blocks int64) {
	n := (*sites.counts.Load())[s-1]
	n.bytes.Add(bytes)
	n.blocks.Add(blocks)
}

var sitesOn atomic.Bool

func siteWord(p uintptr) *uint16 {
	return (*uint16)(ptr(region.sites.base + (p-region.base)>>granuleShift*2))
}

// setSite labels the block at p of class c, which the caller holds.
func setSite(p uintptr, c uint8, site uint32) {
	*siteWord(p) = uint16(site)
	siteAdd(site, int64(classSize(c)), 1)
}

// unsite counts a freed block out of its site, if its live value says it has one.
func unsite(p uintptr, c, v uint8) {
	if v == liveSited {
		siteAdd(uint32(*siteWord(p)), -int64(classSize(c)), -1)
	}
}

// siteOf returns the site of the block at p whose live value is v.
func siteOf(p uintptr, v uint8) uint32 {
	if v == liveSited {
		return uint32(*siteWord(p))
	}
	return 0
}
