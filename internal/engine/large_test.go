package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/site"
)

// TestCachedLargeSite: a large block's site ends with its free, whether the block is cached then or not.
func TestCachedLargeSite(t *testing.T) {
	s := site.Register("TestCachedLargeSite")
	for range 3 {
		p := MallocAt(s, 300<<10)
		if _, site, bad := Size(p); site != s || bad.Kind != OK {
			t.Errorf("site %d, %+v", site, bad)
		}
		if _, bytes, blocks := site.Read(s); bytes != 320<<10 || blocks != 1 {
			t.Errorf("%d bytes in %d blocks", bytes, blocks)
		}
		Free(0, p)
		if _, bytes, blocks := site.Read(s); bytes != 0 || blocks != 0 {
			t.Errorf("%d bytes in %d blocks after the free", bytes, blocks)
		}
		q := Malloc(0, 300<<10)
		if _, site, _ := Size(q); site != 0 {
			t.Errorf("a large block without site has site %d", site)
		}
		Free(0, q)
	}
}
