package engine

import "github.com/hakmem/hakmem/internal/mem"

// page returns the page of the region in which p lies.
func (p Block) page() pageNo { return pageAt(mem.Addr(p)) }

// pageAt returns the page of the region in which the address a lies.
func pageAt(a mem.Addr) pageNo { return pageNo((a - region.base) >> pageShift) }

// addr returns the first address of the page.
func (n pageNo) addr() mem.Addr { return region.base + mem.Addr(n)<<pageShift }

func (c chunkNo) addr() mem.Addr { return region.base + mem.Addr(c)<<superShift }
