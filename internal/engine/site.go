package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Sites: the label of a block's purpose. A block with a site has liveSited in
// its live state and its site in the site map, two bytes for each granule of
// the region, committed only when the first such block is made (and, for
// memory, touched only where such blocks start). Large blocks keep it in their first
// page's metadata.

var sitesOn atomic.Bool

func siteWord(p Block) *uint16 {
	return (*uint16)(ptr(region.sites.base + (mem.Addr(p)-region.base)>>granuleShift*2))
}

// setSite labels the block at p of class c, which the caller holds.
func setSite(p Block, c sizeclass.ID, site site.ID) {
	*siteWord(p) = uint16(site)
	site.Allocated(c.Bytes())
}

// unsite counts a freed block out of its site, if its live value says it has one.
func unsite(p Block, c sizeclass.ID, v liveState) {
	if v == liveSited {
		site.ID(*siteWord(p)).Freed(c.Bytes())
	}
}

// siteOf returns the site of the block at p whose live value is v.
func siteOf(p Block, v liveState) site.ID {
	if v == liveSited {
		return site.ID(*siteWord(p))
	}
	return 0
}

// labelLarge gives the large block at p, which the caller holds, a site.
func labelLarge(p Block, site site.ID) {
	m := meta(p.page())
	m.setSite(site)
	site.Allocated(m.largeSize)
}

// unlabelLarge takes a freed large block's site away.
func unlabelLarge(m *pageMeta) {
	if m.site() != 0 {
		m.site().Freed(m.largeSize)
		m.setSite(0)
	}
}
