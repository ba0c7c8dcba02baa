package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
)

// TestPostponed: every misuse that was found in the middle of something else is reported
// once, however many there are and wherever they were found: in the order of the list, and
// then what goroutines that were entered have found.
func TestPostponed(t *testing.T) {
	blocks := fillBytes(t, 6*64, 64)
	defer freeBlocks(t, blocks)
	written := func(p Block) func() { return func() { Postpone(Finding{Kind: WrittenFreed, Addr: p.addr()}) } }
	late := func(p Block) func() { return func() { foundLate(p) } }
	lateEntered := func(p Block) func() { return func() { entered(func() { foundLateEntered(p) }) } }
	for _, x := range []struct {
		name  string
		found []func()
		want  []Block
	}{
		{"nothing", nil, nil},
		{"one", []func(){late(blocks[0])}, blocks[:1]},
		{"one entered", []func(){lateEntered(blocks[0])}, blocks[:1]},
		{"three", []func(){written(blocks[0]), late(blocks[1]), written(blocks[2])}, blocks[:3]},
		{"three entered", []func(){lateEntered(blocks[0]), lateEntered(blocks[1]), lateEntered(blocks[2])}, blocks[:3]},
		{"both in turns", []func(){late(blocks[0]), lateEntered(blocks[3]), written(blocks[1]), lateEntered(blocks[4]), late(blocks[2])}, blocks[:5]},
		{"none of kind OK", []func(){func() { Postpone(Finding{}) }, late(blocks[0])}, blocks[:1]},
	} {
		t.Run(x.name, func(t *testing.T) {
			forgetFindings()
			for _, found := range x.found {
				found()
			}
			for i, p := range x.want {
				if f := TakeFinding(); f.Kind == OK || f.Addr != p.addr() {
					t.Errorf("finding %d is %+v, want one of %#x", i, f, p)
				}
			}
			if f := TakeFinding(); f.Kind != OK {
				t.Errorf("a finding more: %+v", f)
			}
		})
	}
}

// TestFoundWhileTaken: what is found between two reports comes with the second.
func TestFoundWhileTaken(t *testing.T) {
	blocks := fillBytes(t, 3*64, 64)
	defer freeBlocks(t, blocks)
	forgetFindings()
	foundLate(blocks[0])
	foundLate(blocks[1])
	first := TakeFinding()
	entered(func() { foundLateEntered(blocks[2]) })
	second, third := TakeFinding(), TakeFinding()
	for i, f := range []Finding{first, second, third} {
		if f.Kind != LateFreed || f.Block != blocks[i] {
			t.Errorf("finding %d is %+v, want the late free of %#x", i, f, blocks[i])
		}
	}
}

// TestPostponedNoMore: of more findings than the list holds, the oldest are reported.
func TestPostponedNoMore(t *testing.T) {
	forgetFindings()
	for i := range maxPostponed + 3 {
		Postpone(Finding{Kind: WrittenFreed, Addr: mem.Addr(i + 1)})
	}
	for i := range maxPostponed {
		if f := TakeFinding(); f.Addr != mem.Addr(i+1) {
			t.Fatalf("finding %d is %+v", i, f)
		}
	}
	if f := TakeFinding(); f.Kind != OK {
		t.Errorf("the list holds more than %d: %+v", maxPostponed, f)
	}
}
