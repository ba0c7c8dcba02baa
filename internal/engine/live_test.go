package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// TestMisuseWhilePageChanges: a free of a block that is long gone may look at its page while the
// page becomes a large block's. Then it may find the old kind with the new class. It must not
// panic: it is pinned.
func TestMisuseWhilePageChanges(t *testing.T) {
	p := Malloc(0, 100<<10)
	m := meta(p.page())
	kind, recip := m.kind, m.recip
	for _, old := range []pageKind{kindTiny, kindMid, kindSlabFreed} {
		m.kind, m.recip = old, 0
		for _, q := range []Block{p, p + 16, p + 8} {
			if _, _, _, why := liveByte(q); why == OK {
				t.Errorf("kind %d: %#x is a block", old, q-p)
			}
			if bad := finding(q, m, Freed); bad.Block != 0 {
				t.Errorf("kind %d: %#x is in a block: %+v", old, q-p, bad)
			}
		}
	}
	m.kind, m.recip = kind, recip
	if bad := Free(0, p); bad.Kind != OK {
		t.Errorf("%+v", bad)
	}
}

// TestFreedLongAgo: the slab of a block was given back, and its page serves nothing now. A free of
// the block reports that it was freed; a free of an address inside a block reports that there is no
// block. (A large block's first page stands for the large block.)
func TestFreedLongAgo(t *testing.T) {
	withClock(t)
	for _, size := range []mem.Bytes{48, 1000, 3000, 32 << 10, 100 << 10} {
		blocks := fillBytes(t, 4*mebibyte, size)
		freeBlocks(t, blocks)
		Trim()
		for _, p := range []Block{blocks[0], blocks[len(blocks)/2]} {
			if bad := Free(0, p); bad.Kind != Freed || bad.Addr != p.addr() {
				t.Errorf("%d bytes: a second free after Trim: %+v", size, bad)
			}
			if _, _, bad := Size(p); bad.Kind != Freed {
				t.Errorf("%d bytes: the size after Trim: %+v", size, bad)
			}
			if bad := Free(0, p+16); bad.Kind == OK || bad.Kind == Freed && size <= sizeclass.MaxMid {
				t.Errorf("%d bytes: a free inside, after Trim: %+v", size, bad)
			}
		}
	}
}
