package environments_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Programs with many Ps, and with many goroutines.

// soonIdle makes the scavenger's window, and with it all of its times, a tenth of the default.
const soonIdle = "HAKMEM_DECAY_MS=220"

// comesToRest waits until the scavenger's timer is no longer set and no block is in a magazine. It
// fails only after a time that no machine needs.
func comesToRest() error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s := workout.ReadStats()
		if !s.Scavenger.Running && s.InMagazines == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after a minute the timer is set (%t), %d bytes are in magazines of %d fronts, %d dirty",
				s.Scavenger.Running, s.InMagazines, s.Fronts, s.Scavenger.Dirty)
		}
	}
}

var _ = testkit.Child("bursts on many Ps", burstsOnManyPs)

// burstsOnManyPs works in bursts of four goroutines for each of 64 Ps, between which it rests.
func burstsOnManyPs(string) error {
	const ps = 64
	runtime.GOMAXPROCS(ps)
	for burst := range uint64(4) {
		err := workout.Together(4*ps, func(g uint64) error {
			r := rand.New(rand.NewPCG(burst, g))
			var blocks []workout.Block
			for i := range uint64(150) {
				b := workout.Block{Size: testkit.RandomSize(r), Key: g<<32 | i}
				if b.P = hakmem.Malloc(b.Size); b.P == nil {
					return fmt.Errorf("no block of %d bytes: %w", b.Size, hakmem.Err())
				}
				testkit.Fill(b.P, b.Size, b.Key)
				blocks = append(blocks, b)
				if i%10 == 0 {
					runtime.Gosched()
				}
			}
			for _, b := range blocks {
				if !testkit.Intact(b.P, b.Size, b.Key) {
					return fmt.Errorf("%v is damaged", b)
				}
				hakmem.Free(b.P)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if s := workout.ReadStats(); s.Live != 0 {
			return fmt.Errorf("burst %d: %d bytes live", burst, s.Live)
		}
		if burst%2 == 1 { // the other bursts come while the memory of the last one is still there
			if err := comesToRest(); err != nil {
				return fmt.Errorf("burst %d: %w", burst, err)
			}
		}
	}
	if s := workout.ReadStats(); s.Scavenger.Used+s.Scavenger.Dirty != 0 {
		return fmt.Errorf("at rest %d bytes are used and %d dirty", s.Scavenger.Used, s.Scavenger.Dirty)
	}
	return workout.NothingLost()
}

func TestBurstsOnManyPs(t *testing.T) { testkit.InChild(t, "bursts on many Ps", "", soonIdle) }

var _ = testkit.Child("parked goroutines", parkedGoroutines)

// parkedGoroutines lets arg goroutines use a block and park, and wants that they cost nothing then.
func parkedGoroutines(arg string) error {
	n, _ := strconv.Atoi(arg)
	var used, done sync.WaitGroup
	wake := make(chan struct{})
	failed := make(chan error, 1)
	use := func(i int) {
		b := workout.Block{Size: uintptr(16 + i%2000), Key: uint64(i)}
		if b.P = hakmem.Malloc(b.Size); b.P != nil {
			testkit.Fill(b.P, b.Size, b.Key)
			runtime.Gosched()
			if testkit.Intact(b.P, b.Size, b.Key) {
				hakmem.Free(b.P)
				return
			}
		}
		select {
		case failed <- fmt.Errorf("no block, or a damaged one: %v: %w", b, hakmem.Err()):
		default:
		}
	}
	used.Add(n)
	done.Add(n)
	for i := range n {
		go func() {
			defer done.Done()
			use(i)
			used.Done()
			<-wake
			use(i)
		}()
	}
	used.Wait()
	// A front for each P, and the locked ones at most.
	if s, most := workout.ReadStats(), runtime.GOMAXPROCS(0)+64; s.Fronts > most || s.Live != 0 {
		return fmt.Errorf("%d fronts for %d Ps, %d bytes live", s.Fronts, runtime.GOMAXPROCS(0), s.Live)
	}
	if err := comesToRest(); err != nil {
		return err
	}
	before := workout.ReadStats()
	time.Sleep(time.Second)
	after := workout.ReadStats()
	if after.Scavenger.Ticks != before.Scavenger.Ticks || after.SystemCalls != before.SystemCalls || after.Fronts != 0 {
		return fmt.Errorf("while all goroutines are parked: %d ticks, %d fronts, system calls %+v, and before %+v",
			after.Scavenger.Ticks-before.Scavenger.Ticks, after.Fronts, after.SystemCalls, before.SystemCalls)
	}
	if s := after.Scavenger; s.Used+s.Dirty != 0 {
		return fmt.Errorf("while all goroutines are parked %d bytes are used and %d dirty", s.Used, s.Dirty)
	}
	close(wake)
	done.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	return workout.NothingLost()
}

func TestParkedGoroutines(t *testing.T) {
	n := 200_000
	switch {
	case testkit.Race:
		n = 5000 // the race detector knows 8128 at a time
	case testing.Short():
		n = 20_000
	}
	testkit.InChild(t, "parked goroutines", strconv.Itoa(n), soonIdle)
}
