package governor

import (
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/hakmem/hakmem"
)

// goMemory is what Go's runtime says of its memory. Sizes are in bytes.
type goMemory struct {
	limit   uint64 // in force (debug.SetMemoryLimit)
	percent int    // in force (debug.SetGCPercent); -1 is off
	used    uint64 // what the limit counts
	live    uint64 // of the heap, after the last collection
	other   uint64 // what used is more than objects and free heap: stacks, tables, unused ends of spans
	cycles  cycles // that have ended
}

// cycles is a number of Go's collections.
type cycles uint64

// offHeap is what hakmem says of its memory. Sizes are in bytes.
type offHeap struct {
	limits  limits // in force
	counted uint64 // what the limits count
	least   uint64 // what of it is neither in free pages nor in cached blocks
}

// limits are hakmem's, as hakmem.MemoryLimit returns them. 0 is none.
type limits struct{ soft, hard uint64 }

// process is what a governor sees of the process and what it sets. Tests have one of their own.
type process interface {
	// read says what memory is used for now.
	read() (goMemory, offHeap)
	// container returns the container's limit; 0 is none.
	container() uint64
	// setLimit and setPercent set Go's limit and GC percent and return those before.
	setLimit(bytes uint64) uint64
	setPercent(p int) int
	// setHakmem sets hakmem's limits, which are whole pages of hakmem's, and returns those before. With an error
	// nothing has changed.
	setHakmem(limits) (limits, error)
	// env returns an environment variable, "" if it is not set.
	env(name string) string
	// since returns the time since any fixed moment, and after a channel that is sent to once, after d.
	since() time.Duration
	after(d time.Duration) <-chan time.Time
}

// thisProcess is the process in which the governor runs. For one goroutine at a time.
type thisProcess struct {
	samples []metrics.Sample
	stats   hakmem.Stats // kept, so that a look makes no garbage
	began   time.Time
}

// The samples of thisProcess, in their order.
const (
	sampleTotal = iota
	sampleReleased
	sampleObjects
	sampleFree
	sampleLive
	sampleLimit
	samplePercent
	sampleCycles
)

var sampleNames = [...]string{
	sampleTotal:    "/memory/classes/total:bytes",
	sampleReleased: "/memory/classes/heap/released:bytes",
	sampleObjects:  "/memory/classes/heap/objects:bytes",
	sampleFree:     "/memory/classes/heap/free:bytes",
	sampleLive:     "/gc/heap/live:bytes",
	sampleLimit:    "/gc/gomemlimit:bytes",
	samplePercent:  "/gc/gogc:percent",
	sampleCycles:   "/gc/cycles/total:gc-cycles",
}

func newProcess() *thisProcess {
	p := &thisProcess{began: time.Now()}
	for _, name := range sampleNames {
		p.samples = append(p.samples, metrics.Sample{Name: name})
	}
	return p
}

// sample returns a figure, 0 if this version of Go does not have it.
func (p *thisProcess) sample(i int) uint64 {
	if v := p.samples[i].Value; v.Kind() == metrics.KindUint64 {
		return v.Uint64()
	}
	return 0
}

// read takes some µs for Go's figures and about 1 ms for each GiB of hakmem's memory.
func (p *thisProcess) read() (goMemory, offHeap) {
	metrics.Read(p.samples)
	g := goMemory{
		limit:   p.sample(sampleLimit),
		percent: -1,
		used:    p.sample(sampleTotal) - p.sample(sampleReleased),
		live:    p.sample(sampleLive),
		cycles:  cycles(p.sample(sampleCycles)),
	}
	if n := p.sample(samplePercent); n <= math.MaxInt32 { // "off" is the largest uint64
		g.percent = int(n)
	}
	g.other = less(g.used, p.sample(sampleObjects)+p.sample(sampleFree))

	s := &p.stats
	hakmem.ReadStats(s)
	h := offHeap{counted: s.Counted, least: less(s.Counted, s.Scavenger.Dirty+s.Large.CachedBytes)}
	// Figures that are read while others allocate need not fit together.
	h.least = min(max(h.least, s.Live), h.counted)
	h.limits.soft, h.limits.hard = hakmem.MemoryLimit()
	return g, h
}

func (*thisProcess) container() uint64 {
	n, ok := hakmem.ContainerLimit()
	if !ok {
		return 0
	}
	return max(n, 1) // a limit of 0 is one
}

func (*thisProcess) setLimit(bytes uint64) uint64 {
	return uint64(debug.SetMemoryLimit(inInt64(bytes)))
}

func (*thisProcess) setPercent(p int) int { return debug.SetGCPercent(p) }

func (*thisProcess) setHakmem(l limits) (limits, error) {
	var was limits
	var err error
	was.soft, was.hard, err = hakmem.SwapMemoryLimit(l.soft, l.hard)
	return was, err
}

func (*thisProcess) env(name string) string { return os.Getenv(name) }

func (p *thisProcess) since() time.Duration                 { return time.Since(p.began) }
func (*thisProcess) after(d time.Duration) <-chan time.Time { return time.After(d) }

// less returns a - b, and 0 where b is more.
func less(a, b uint64) uint64 { return a - min(a, b) }
