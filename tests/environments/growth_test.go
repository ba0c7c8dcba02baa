package environments_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

var _ = testkit.Child("growth by half", growthByHalf)

// growthByHalf makes a block half as large again until it has arg bytes, and counts the bytes that
// are copied: those of a block that moves.
func growthByHalf(arg string) error {
	last, _ := strconv.ParseUint(arg, 10, 64)
	size, key := uintptr(64), uint64(7)
	p := hakmem.Malloc(size)
	testkit.Fill(p, size, key)
	copied, moves := uintptr(0), 0
	for size < uintptr(last) {
		q := hakmem.Realloc(p, size+size/2)
		if q == nil {
			return fmt.Errorf("no block of %d bytes: %w", size+size/2, hakmem.Err())
		}
		if !testkit.Intact(q, size, key) {
			return fmt.Errorf("grown from %d bytes, the block has lost its contents", size)
		}
		if q != p {
			copied += size
			moves++
		}
		p, size = q, size+size/2
		// A block of another kind in between, as other parts of a program have them.
		other := hakmem.Malloc(min(size, 1<<20))
		testkit.Fill(p, size, key)
		hakmem.Free(other)
	}
	hakmem.Free(p)
	fmt.Printf("%d bytes, %d moves, %d bytes copied\n", size, moves, copied)
	if copied > size/50 {
		return fmt.Errorf("%d moves copied %d bytes of a block of %d: more than 2 %%", moves, copied, size)
	}
	return workout.NothingLost()
}

func TestGrowthByHalf(t *testing.T) {
	last := 256 << 20
	if testing.Short() || testkit.Race {
		last = 32 << 20
	}
	testkit.InChild(t, "growth by half", strconv.Itoa(last))
}
