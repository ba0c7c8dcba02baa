package environments_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

var _ = testkit.Child("growth by half", growthByHalf)

// mostCopied bounds what growth copies, however large the block becomes. Blocks up to 2 MiB have
// classes and move with each step; the sum of them is three times the last one. A larger block
// grows where it lies as long as the pages behind it are free.
const mostCopied = 3 * (2 << 20)

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
		testkit.Fill(p, size, key)
	}
	hakmem.Free(p)
	if copied > mostCopied {
		return fmt.Errorf("%d moves copied %d bytes of a block of %d, want at most %d", moves, copied, size, mostCopied)
	}
	return workout.NothingLost()
}

func TestGrowthByHalf(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; hardened blocks move whenever they grow")
	}
	last := 256 << 20
	if testing.Short() || testkit.Race {
		last = 32 << 20
	}
	testkit.InChild(t, "growth by half", strconv.Itoa(last))
}
