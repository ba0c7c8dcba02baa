package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/osmem"
)

// withGuard guards every block for the test, with nothing left of what earlier guarded blocks did.
func withGuard(t *testing.T) {
	t.Helper()
	withPolicy(t, map[string]string{"HAKMEM_GUARD": "1"})
	guard.Lock()
	guard.notBefore, guard.lookAt, guard.mappings = 0, 0, 0
	guard.Unlock()
}

// TestGuardBacksOff: when the system has nothing for a guarded block, blocks are not guarded for a
// while, and the system is not asked.
func TestGuardBacksOff(t *testing.T) {
	withGuard(t)
	var blocks []Block
	allocate := func(n int) (made, skipped uint64) {
		_, m, s := GuardTotals()
		for range n {
			p := Malloc(0, 100)
			if p == 0 {
				t.Fatal(Survived())
			}
			blocks = append(blocks, p)
		}
		_, made, skipped = GuardTotals()
		return made - m, skipped - s
	}
	if made, skipped := allocate(10); made != 10 || skipped != 0 {
		t.Fatalf("of 10 blocks %d are guarded, %d skipped", made, skipped)
	}
	refused := false
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpCommit && !refused { // what is not guarded may need memory, too
			refused = true
			return osmem.ErrInjected
		}
		return nil
	})
	made, skipped := allocate(1000)
	osmem.Inject(nil)
	if made != 0 || skipped != 1000 || !refused {
		t.Errorf("of 1000 blocks %d are guarded, %d skipped; a call was refused: %v", made, skipped, refused)
	}
	guard.Lock()
	if guard.notBefore == 0 || guard.mappings != 0 {
		t.Errorf("no block before %v, %d mappings", guard.notBefore, guard.mappings)
	}
	guard.notBefore, guard.lookAt = 0, 0 // a second later
	guard.Unlock()
	if made, _ := allocate(10); made != 10 {
		t.Errorf("a second later %d blocks of 10 are guarded", made)
	}
	freeBlocks(t, blocks)
}

// TestMayMap: however often guarded blocks take all that they may, a quarter is left.
func TestMayMap(t *testing.T) {
	withGuard(t)
	left, ok := osmem.MappingsLeft()
	if !ok || left > 1<<20 {
		t.Skipf("skipped: there are %d mappings left, known: %v", left, ok)
	}
	guard.Lock()
	defer guard.Unlock()
	slots, live, spare := guard.slots, guard.live, guard.spare
	defer func() { guard.slots, guard.live, guard.spare, guard.mappings, guard.lookAt = slots, live, spare, 0, 0 }()
	guard.slots, guard.live, guard.spare = nil, 0, true
	n := 0
	for range 200 { // looks; the slots take no mappings here, so they do not count as live
		for guard.lookAt = 0; mayMap(); guard.lookAt = 1 << 62 {
			n++
			guard.slots = append(guard.slots, nil)
		}
	}
	if most := left * 3 / 4; n*slotMappings > most || n*slotMappings < most*9/10 {
		t.Errorf("%d slots of %d mappings, of %d that are free", n, slotMappings, left)
	}
}
