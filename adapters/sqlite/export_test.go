package hakmemsqlite

import "github.com/hakmem/hakmem"

// PageBytes is what a pool counts for a page.
func PageBytes(pageSize, extraSize uintptr) uintptr {
	return hakmem.GoodSize(pageSize + extraSize)
}
