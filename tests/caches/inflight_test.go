package caches_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

const (
	// inFlight is how many bytes are between producers and consumers at a time, in blocks of 16 bytes to 32 KiB,
	// evenly distributed on a logarithmic scale.
	inFlight     = 64 << 20
	largestSmall = 32 << 10
	// waits is how long a consumer lets the producers go ahead when less than 15 of 16 blocks are in flight.
	waits = 100 * time.Microsecond
	// looked is the time between two looks at the resident memory.
	looked = 5 * time.Millisecond
)

// relay is producers and consumers, as many as there are Ps together. Each block is allocated by one goroutine
// and freed by another, most often on another P.
type relay struct {
	ps     int
	blocks chan uintptr
	stop   chan struct{}
}

// run lets blocks pass from producers to consumers for a time. It returns how many passed, and by how much the
// resident memory of the process was above what it was before, in MiB, at most.
func (x *relay) run(length time.Duration) (passed int64, peak float64, err error) {
	old := runtime.GOMAXPROCS(x.ps)
	defer runtime.GOMAXPROCS(old)
	x.blocks, x.stop = make(chan uintptr, int(inFlight/meanSize(largestSmall))), make(chan struct{})
	before, ok := osmem.ResidentBytes()
	if !ok {
		return 0, 0, fmt.Errorf("the system does not say what is resident")
	}
	var producers, consumers sync.WaitGroup
	counts := make([]int64, max(x.ps/2, 1))
	for g := range counts {
		producers.Go(func() { x.produce(rand.New(rand.NewPCG(uint64(g), 1))) })
		consumers.Go(func() { counts[g] = x.consume() })
	}
	for began := time.Now(); time.Since(began) < length; time.Sleep(looked) {
		now, _ := osmem.ResidentBytes()
		peak = max(peak, (float64(now)-float64(before))/(1<<20))
	}
	close(x.stop)
	producers.Wait()
	close(x.blocks)
	consumers.Wait()
	for _, n := range counts {
		passed += n
	}
	return passed, peak, nil
}

// produce allocates blocks, and writes to each of their OS pages, until it is to stop.
func (x *relay) produce(r *rand.Rand) {
	for {
		p, _ := newBlock(r, largestSmall)
		select {
		case x.blocks <- uintptr(p):
		case <-x.stop:
			hakmem.Free(p)
			return
		}
	}
}

// consume frees blocks until there are no more, and returns how many.
func (x *relay) consume() (n int64) {
	for p := range x.blocks {
		hakmem.Free(at(p))
		n++
		for stopped := false; !stopped && len(x.blocks) < cap(x.blocks)/16*15; {
			select {
			case <-x.stop:
				stopped = true
			case <-time.After(waits):
			}
		}
	}
	return n
}

var _ = testkit.Child("inflight", inflight)

// peaks are what the process may take at most, in MiB, with so many Ps: one and a half times what is in flight and
// a MiB for each P, and an eighth of that, because how far threads get ahead of each other differs from run to
// run. Without a share for each front it took 178 to 193 and 268 to 416, with it 110 to 114 and 113 to 161
// (docs/ledger.md, "A share for each front").
var peaks = map[int]float64{16: 126, 64: 180}

// inflight is a process with arg Ps, half of them producers. It fails if the process takes more than it may.
func inflight(arg string) error {
	ps, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	passed, peak, err := (&relay{ps: ps}).run(1500 * time.Millisecond)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d Ps: at most %.0f MiB, for %d blocks of which %d MiB are in flight\n", ps, peak, passed, inFlight>>20)
	if most := peaks[ps]; peak > most {
		return fmt.Errorf("%d Ps take %.0f MiB for %d MiB in flight, want at most %.0f", ps, peak, inFlight>>20, most)
	}
	if least := 0.75 * float64(inFlight>>20); peak < least {
		return fmt.Errorf("%d Ps took %.0f MiB at most: less than %.0f were in flight, so nothing was measured", ps, peak, least)
	}
	return hakmem.Err()
}

// TestInFlight: where some Ps allocate and others free, what is held beyond the blocks in flight is bounded.
func TestInFlight(t *testing.T) {
	needBudget(t, 3)
	for ps := range peaks {
		testkit.InChild(t, "inflight", strconv.Itoa(ps))
	}
}
