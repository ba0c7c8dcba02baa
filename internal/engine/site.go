package engine

import (
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file labels blocks with the site for which they were allocated. A block with a site has
// liveSited as its live state, and its site is in the site map: two bytes for each granule of the
// region. The map is committed when the first such block is made, and its memory is touched only
// where such blocks start. A large block has its site in the metadata of its first page. The label
// of a block is owned by the goroutine that holds the block.

// siteWord returns the entry of the site map for the block at p.
func siteWord(p Block) *uint16 {
	return (*uint16)(ptr(region.sites.base + (mem.Addr(p)-region.base)>>granuleShift*2))
}

// labelsOf returns the address of the part of the site map that belongs to a page.
func labelsOf(page pageNo) mem.Addr {
	return region.sites.base + mem.Addr(page)*mem.Addr(region.sites.unit)
}

// setSite labels the block at p of class c, which the caller holds, and counts it. It returns how many
// blocks the site has had so far, modulo 2^24.
func setSite(p Block, c sizeclass.ID, site site.ID) (n uint32) {
	*siteWord(p) = uint16(site)
	return site.Allocated(c.Bytes())
}

// unsite takes a freed block out of its site's count. v is the block's live state: without
// liveSited the block has no site.
func unsite(p Block, c sizeclass.ID, v liveState) {
	if v == liveSited {
		site.ID(*siteWord(p)).Freed(c.Bytes())
	}
}

// siteOf returns the site of the block at p, whose live state is v.
func siteOf(p Block, v liveState) site.ID {
	if v == liveSited {
		return site.ID(*siteWord(p))
	}
	return 0
}

// labelLarge gives a site to the large block at p, which the caller holds.
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
