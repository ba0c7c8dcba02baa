package workout

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Block is a test's own record of one allocation.
type Block struct {
	P    unsafe.Pointer
	Size uintptr // bytes asked for, all of them filled with Key
	Key  uint64
}

// Check fails the test if the block's contents have changed.
func (b Block) Check(t testing.TB) {
	t.Helper()
	if !testkit.Intact(b.P, b.Size, b.Key) {
		t.Fatalf("%v: its contents were changed", b)
	}
}

func (b Block) String() string { return fmt.Sprintf("block %p of %d bytes", b.P, b.Size) }

// NewBlock allocates through malloc and fills the block.
func NewBlock(t testing.TB, malloc func(uintptr) unsafe.Pointer, size uintptr, key uint64) Block {
	t.Helper()
	p := malloc(size)
	if p == nil {
		t.Fatalf("no block of %d bytes: %v", size, hakmem.Err())
	}
	testkit.Fill(p, size, key)
	return Block{P: p, Size: size, Key: key}
}

// Overlapping returns two of the blocks that share memory, or ok = false. Blocks of size 0 count as
// one byte, because their addresses are unique.
func Overlapping(blocks []Block) (a, b Block, ok bool) {
	s := slices.Clone(blocks)
	slices.SortFunc(s, func(a, b Block) int { return cmp.Compare(uintptr(a.P), uintptr(b.P)) })
	for i := 1; i < len(s); i++ {
		if uintptr(s[i-1].P)+max(s[i-1].Size, 1) > uintptr(s[i].P) {
			return s[i-1], s[i], true
		}
	}
	return Block{}, Block{}, false
}

// MustNotOverlap fails the test if two of the blocks share memory.
func MustNotOverlap(t testing.TB, blocks []Block) {
	t.Helper()
	if a, b, bad := Overlapping(blocks); bad {
		t.Fatalf("%v overlaps %v", a, b)
	}
}
