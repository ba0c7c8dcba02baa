package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// TestUncommitFree: free chunks go away and come back when they are needed, as slabs and as large
// blocks, and are zero then.
func TestUncommitFree(t *testing.T) {
	if tracked || !osmem.KeepsReadable {
		t.Skip("skipped: this build uncommits nothing")
	}
	defer commitAll(t)
	const total = 128 * mebibyte
	for _, size := range []mem.Bytes{48, 4096, 200 << 10, 64 * mebibyte} {
		withClock(t)
		forgetSurvived(t)
		freeBlocks(t, fillBytes(t, total, size))
		Trim()
		uncommitFree()
		region.mu.Lock()
		away := chunksAway
		region.mu.Unlock()
		if away < total/2>>superShift {
			t.Errorf("%d bytes: %d chunks are away after a peak of %d", size, away, total>>superShift)
		}
		if bad := CheckInvariants(); bad != nil {
			t.Fatalf("%d bytes, away: %v", size, bad)
		}
		committed := region.committed.Load()
		blocks := fillBytes(t, total/2, size)
		if now := region.committed.Load(); now != committed {
			t.Errorf("%d bytes: the region grew by %d MiB while chunks were away", size, (now-committed)/mebibyte)
		}
		if bad := CheckInvariants(); bad != nil {
			t.Fatalf("%d bytes, brought back: %v", size, bad)
		}
		freeBlocks(t, blocks)
		if err := Survived(); len(err) > 0 {
			t.Error(err)
		}
	}
}

// TestUncommitRefused: chunks that cannot be uncommitted as a whole are there afterwards or come
// back later, and nothing is lost.
func TestUncommitRefused(t *testing.T) {
	if tracked || !osmem.KeepsReadable {
		t.Skip("skipped: this build uncommits nothing")
	}
	defer commitAll(t)
	defer osmem.Inject(nil)
	for nth := 1; nth <= 4; nth++ {
		withClock(t)
		forgetSurvived(t)
		freeBlocks(t, fillBytes(t, 128*mebibyte, 4096))
		Trim()
		testkit.RefuseOp(osmem.OpDiscard, func(n int) bool { return n == nth })
		uncommitFree()
		osmem.Inject(nil)
		if bad := CheckInvariants(); bad != nil {
			t.Fatalf("%d: %v", nth, bad)
		}
		testkit.RefuseOp(osmem.OpCommit, func(n int) bool { return n <= nth })
		var blocks []Block
		for tries := 0; len(blocks) < 32*mebibyte/4096; tries++ {
			if p := Malloc(0, 4096); p != 0 {
				blocks = append(blocks, p)
			} else if tries > 32*mebibyte/4096+1000 {
				t.Fatal("memory does not come back: ", Survived())
			}
		}
		osmem.Inject(nil)
		if bad := CheckInvariants(); bad != nil {
			t.Fatalf("%d, brought back: %v", nth, bad)
		}
		freeBlocks(t, blocks)
	}
}

// TestUncommitBelongsToOne: nobody brings a chunk back while it is being uncommitted.
func TestUncommitBelongsToOne(t *testing.T) {
	if tracked || !osmem.KeepsReadable {
		t.Skip("skipped: this build uncommits nothing")
	}
	defer commitAll(t)
	defer osmem.Inject(nil)
	withClock(t)
	freeBlocks(t, fillBytes(t, 128*mebibyte, 4096))
	Trim()
	bring := func() bool {
		region.mu.Lock()
		defer region.mu.Unlock()
		return bringBack(superSize)
	}
	asked, early := 0, 0
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpDiscard {
			if asked++; bring() && asked <= 3 { // the parts of the first run: nothing is away yet
				early++
			}
		}
		return nil
	})
	uncommitFree()
	osmem.Inject(nil)
	if asked < 3 || early > 0 {
		t.Errorf("in the first 3 of %d calls that uncommit, chunks came back %d times", asked, early)
	}
	if !bring() {
		t.Error("no chunk comes back afterwards")
	}
	if bad := CheckInvariants(); bad != nil {
		t.Fatal(bad)
	}
}

// commitAll brings back what is away: other tests look at the whole region.
func commitAll(t *testing.T) {
	region.mu.Lock()
	defer region.mu.Unlock()
	for c := region.firstChunk(); c < region.endChunk(); c++ {
		if super(c).away {
			if err := (chunkRun{c, c + 1}).commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
