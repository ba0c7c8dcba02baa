package environments_test

import (
	"fmt"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

var _ = testkit.Child("Calloc after refused returns", callocAfterRefusedReturns)

// callocAfterRefusedReturns fills and frees blocks of every kind, has the system refuse to take
// back their memory, or some of it, and allocates zeroed ones.
func callocAfterRefusedReturns(arg string) error {
	refuse := map[string]func(n int) bool{
		"all":    func(int) bool { return true },
		"second": func(n int) bool { return n%2 == 0 },
		"first":  func(n int) bool { return n == 1 },
	}[arg]
	refused := 0
	for round := range uint64(3) {
		for _, k := range workout.Kinds {
			var blocks []workout.Block
			for i := range max(4<<20/k.Size, 3) {
				b := workout.Block{P: hakmem.Malloc(k.Size), Size: k.Size, Key: round<<32 | uint64(i) | 1<<63}
				if b.P == nil {
					return fmt.Errorf("no block of %d bytes: %w", k.Size, hakmem.Err())
				}
				testkit.Fill(b.P, b.Size, b.Key)
				if blocks = append(blocks, b); len(blocks) == 5000 {
					break
				}
			}
			for i, b := range blocks {
				if i%40 != 7 || round == 0 { // some stay, so that slabs are sparse
					hakmem.Free(b.P)
				}
			}
			testkit.RefuseOp(osmem.OpDiscard, func(n int) bool {
				if refuse(n) {
					refused++
					return true
				}
				return false
			})
			hakmem.Trim()
			osmem.Inject(nil)
			var zeroed []workout.Block
			for range blocks {
				b := workout.Block{P: hakmem.Calloc(1, k.Size), Size: k.Size}
				if b.P == nil {
					return fmt.Errorf("no zeroed block of %d bytes: %w", k.Size, hakmem.Err())
				}
				if !testkit.IsZero(b.P, b.Size) {
					return fmt.Errorf("%s: Calloc after a refused return is not zero", k.Name)
				}
				zeroed = append(zeroed, b)
			}
			for _, b := range zeroed {
				testkit.Fill(b.P, b.Size, 3)
				hakmem.Free(b.P)
			}
			for i, b := range blocks {
				if i%40 == 7 && round != 0 {
					if !testkit.Intact(b.P, b.Size, b.Key) {
						return fmt.Errorf("%s: a block that stayed was changed", k.Name)
					}
					hakmem.Free(b.P)
				}
			}
			hakmem.Trim()
		}
	}
	if refused < 3 {
		return fmt.Errorf("only %d returns were refused", refused)
	}
	return workout.NothingLost()
}

func TestCallocAfterRefusedReturns(t *testing.T) {
	for _, which := range []string{"all", "second", "first"} {
		testkit.InChild(t, "Calloc after refused returns", which)
	}
}
