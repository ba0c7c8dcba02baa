//go:build !hakmem_racetrack

// With that tag Go counts hakmem's address range as memory of its own (see the package comment).

package governor

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// These tests run a governor in real processes: Go's limit and hakmem's are the real ones.

// paced is this process with a container's limit that a test has made up, and with a timer that fires when the
// test says so. So nothing depends on how fast the machine is.
type paced struct {
	*thisProcess
	limit uint64
	timer chan time.Time
	waits chan bool // has a value while the governor waits
}

func newPaced(limit uint64) *paced {
	return &paced{newProcess(), limit, make(chan time.Time), make(chan bool, 1)}
}

func (p *paced) container() uint64 { return p.limit }

func (p *paced) after(time.Duration) <-chan time.Time {
	p.waits <- true
	return p.timer
}

// look lets the governor look once, and returns when it has looked.
func (p *paced) look() {
	<-p.waits
	p.timer <- time.Time{}
	p.waits <- <-p.waits
}

var (
	_ = testkit.Child("swing", func(arg string) error {
		total, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			return err
		}
		return swing(total)
	})
	_ = testkit.Child("timer", byTimer)
	_ = testkit.Child("GOMEMLIMIT", keepsFound)
)

// TestRealProcess: in a process with a made-up limit Go's heap and off-heap values that swing against each
// other stay below it.
func TestRealProcess(t *testing.T) { testkit.InChild(t, "swing", strconv.Itoa(400*mib)) }

// swing runs demand that swings between Go's heap and blocks of hakmem. Two fifths of the total are alive in
// the one, a twentieth in the other, in turns. The governor looks about as often as it would if that took ten
// seconds: 50 times in each swing.
func swing(total uint64) error {
	const (
		garbage = 8 * mib // in each step, at least
		object  = 16 << 10
	)
	p := newPaced(total)
	g, err := start(Options{}, p)
	if err != nil {
		return err
	}
	var alive [][]byte
	var blocks [][]byte
	sizes := []int{100, 5000, 100_000, 3 * mib}
	var most, offHeap uint64
	var s hakmem.Stats
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range 150 {
		w := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/50)
		goTo := int((0.05 + 0.35*w) * float64(total) / object)
		hakTo := uint64((0.05 + 0.35*(1-w)) * float64(total))
		for n := 0; n < garbage; n += object { // garbage, and what replaces older objects
			b := make([]byte, object)
			if n/object < len(alive) {
				alive[n/object] = b
			}
		}
		for len(alive) < goTo {
			alive = append(alive, make([]byte, object))
		}
		clear(alive[goTo:])
		alive = alive[:goTo]
		for offHeap < hakTo {
			b := hakmem.Alloc(sizes[len(blocks)%len(sizes)])
			for k := 0; k < len(b); k += 4096 {
				b[k] = 1
			}
			offHeap += uint64(len(b))
			blocks = append(blocks, b)
		}
		for offHeap > hakTo {
			b := blocks[len(blocks)-1]
			blocks = blocks[:len(blocks)-1]
			offHeap -= uint64(len(b))
			hakmem.FreeBytes(b)
		}
		p.look()
		used, resident := memoryNow(&s)
		if most = max(most, resident); used > total {
			return fmt.Errorf("step %d: %d MiB may be resident, with a total of %d: Go's limit %d, %d alive in it; %d off the heap", i, used/mib, total/mib, debug.SetMemoryLimit(-1)/mib, goTo*object/mib, hakTo/mib)
		}
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	fmt.Printf("%d MiB resident at most, of %d; %d collections\n", most/mib, total/mib, after.NumGC-before.NumGC)
	runtime.KeepAlive(alive)
	if most != 0 && most < total/2 {
		return fmt.Errorf("only %d MiB were resident at most: more is alive", most/mib)
	}
	if err := g.Err(); err != nil {
		return err
	}
	g.Close()
	if l := debug.SetMemoryLimit(-1); l != math.MaxInt64 {
		return fmt.Errorf("after Close Go's limit is %d", l)
	}
	return nil
}

// memoryNow returns what Go and hakmem may have resident, and what the process has resident, 0 where the system
// does not say.
func memoryNow(s *hakmem.Stats) (used, resident uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	hakmem.ReadStats(s)
	used = m.Sys - m.HeapReleased + s.Counted
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, pages uint64
		if _, err := fmt.Sscan(string(b), &size, &pages); err == nil {
			resident = pages * uint64(os.Getpagesize())
		}
	}
	return used, resident
}

// TestTimer: the governor looks by itself.
func TestTimer(t *testing.T) { testkit.InChild(t, "timer", "") }

func byTimer(string) error {
	const total = 200 * mib // a look is short: the governor waits a hundred times as long
	if _, err := Start(Options{Total: 1}); !said(err, "Options.Total of 1 bytes") {
		return err
	}
	g, err := Start(Options{Total: total, Period: leastPeriod})
	if err != nil {
		return err
	}
	first := debug.SetMemoryLimit(-1)
	soft, _ := hakmem.MemoryLimit()
	if sum := uint64(first) + soft; soft == 0 || sum > 1<<30 {
		return fmt.Errorf("limits of %d and %d", first, soft)
	}
	if _, err := Start(Options{Total: total}); !errors.Is(err, ErrRunning) {
		return fmt.Errorf("a second governor: %v", err)
	}
	b := hakmem.Alloc(total / 10 * 7) // counts, although it is not touched
	for now := first; now > first/10*8; now = debug.SetMemoryLimit(-1) {
		runtime.Gosched() // a test that hangs is ended
	}
	hakmem.FreeBytes(b)
	hakmem.Trim()
	for now := int64(0); now < first/10*8; now = debug.SetMemoryLimit(-1) {
		runtime.Gosched()
	}
	if err := g.Err(); err != nil {
		return err
	}
	debug.SetMemoryLimit(777 * mib)
	for g.Err() == nil {
		runtime.Gosched()
	}
	g.Close()
	if l := debug.SetMemoryLimit(-1); l != 777*mib || !said(g.Err(), "debug.SetMemoryLimit(814743552)") {
		return fmt.Errorf("Go's limit is %d; %v", l, g.Err())
	}
	if soft, hard := hakmem.MemoryLimit(); soft != 0 || hard != 0 {
		return fmt.Errorf("after Close hakmem's limits are %d and %d", soft, hard)
	}
	return nil
}

// TestEnvironment: GOMEMLIMIT and GOGC are respected as the runtime reads them.
func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ memlimit, gogc string }{{"100MiB", "150"}, {"off", "off"}, {"off", ""}, {"100MiB", ""}} {
		testkit.InChild(t, "GOMEMLIMIT", c.memlimit+" "+c.gogc, "GOMEMLIMIT="+c.memlimit, "GOGC="+c.gogc)
	}
}

func keepsFound(arg string) error {
	g, err := Start(Options{Total: 1 << 30})
	if err != nil {
		return err
	}
	defer g.Close()
	p := newProcess()
	ofGo, _ := p.read()
	was := fmt.Sprintf("%d %d", ofGo.limit/mib, ofGo.percent)
	if want := map[string]string{"100MiB 150": "100 150", "off off": "8796093022207 -1", "off ": "8796093022207 100"}[arg]; was != want && want != "" {
		return fmt.Errorf("in force with %q: %q, want %q", arg, was, want)
	}
	if arg == "100MiB " && (ofGo.limit != 100*mib || ofGo.percent <= 100) {
		return fmt.Errorf("in force with %q: %q: the percent is not raised", arg, was)
	}
	return nil
}
