package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// TestSmallerCommit: where the system refuses a large step it is asked for what is needed, and the
// refusal is reported.
func TestSmallerCommit(t *testing.T) {
	withClock(t)
	defer osmem.Inject(nil)
	region.mu.Lock()
	old, step := region.committed.Load(), region.step
	region.step = 64 * mebibyte
	refused := false
	testkit.RefuseOp(osmem.OpCommit, func(n int) bool {
		refused = true
		return n == 1
	})
	err := grow(3 * mebibyte)
	region.step = step
	grown := region.committed.Load() - old
	region.mu.Unlock()
	if err != nil || !refused || grown != 4*mebibyte {
		t.Errorf("grow = %v, refused %v: %d bytes more, want 4 MiB", err, refused, grown)
	}
	if !reported("trying") {
		t.Errorf("the refusal is not reported: %v", Survived())
	}
}

// TestMetadataIsSmall: for mid blocks and large blocks, hakmem's own tables take at most 2 % of the
// memory of the blocks.
func TestMetadataIsSmall(t *testing.T) {
	needsLook(t)
	resident := func() (n int) {
		for _, a := range region.areas() {
			from := a.start()
			if a.committed <= from {
				continue
			}
			n += residentBytes(t, a.base.Add(from), a.committed-from)
		}
		return n
	}
	for _, size := range []mem.Bytes{1152, 3 << 10, 8 << 10, 32 << 10, 40 << 10, 256 << 10, 5 * mebibyte} {
		withClock(t)
		before := resident()
		const total = 128 * mebibyte
		blocks := fillBytes(t, total, size)
		if n := resident() - before; n > total/50 {
			t.Errorf("%d bytes: %d KiB of metadata for 128 MiB, over 2 %%", size, n>>10)
		} else {
			t.Logf("%d bytes: %.2f %%", size, 100*float64(n)/total)
		}
		freeBlocks(t, blocks)
	}
}
