package refused_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Reservations that are refused.

var _ = testkit.Child("reserve refused once", reserveRefusedOnce)

// reserveRefusedOnce checks that another reservation serves when one is refused. That is no error.
func reserveRefusedOnce(arg string) error {
	nth, _ := strconv.Atoi(arg)
	refused := false
	testkit.RefuseOp(osmem.OpReserve, func(n int) bool { refused = refused || n == nth; return n == nth })
	if n, err := workout.Work(1, 32<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w: %w", n, err, hakmem.Err())
	}
	if !refused {
		fmt.Println(testkit.NotReached)
		return nil
	}
	osmem.Inject(nil)
	if err := hakmem.Err(); err != nil {
		return err
	}
	return workout.NothingLost()
}

func TestReserveRefusedOnce(t *testing.T) {
	most := 10
	if testing.Short() {
		most = 2
	}
	for n := 1; n <= most; n++ {
		if !testkit.InChild(t, "reserve refused once", strconv.Itoa(n)) {
			if n < 6 {
				t.Errorf("there are only %d reservations", n-1)
			}
			break
		}
	}
}

var _ = testkit.Child("reservation refused", reservationRefused)

func reservationRefused(string) error {
	testkit.RefuseOp(osmem.OpReserve, func(int) bool { return true })
	if err := workout.Without(); err != nil {
		return err
	}
	if err := reported(); err != nil {
		return err
	}
	if err := workout.ComesBack(); err != nil {
		return err
	}
	return workout.NothingLost()
}

func TestReservationRefused(t *testing.T) { testkit.InChild(t, "reservation refused", "") }
