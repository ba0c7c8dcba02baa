package governor

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Governor keeps the process under its total while it runs. There is one in a process at a time. Its methods
// may be called from any goroutine.
type Governor struct {
	process process
	options Options
	reports reports
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed by run
	close   sync.Once

	// All that follows is run's own.

	limit   lever[uint64] // Go's, in bytes
	percent lever[int]
	hakmem  lever[limits]

	container uint64        // the container's limit in bytes; 0 is none
	readAt    time.Duration // when that was read
	growth    growth
	steady    steady
	asking    asking
}

// ErrRunning is what Start returns while another governor runs.
var ErrRunning = errors.New("governor: a governor runs already: close it before another is started, or share it")

// running says that there is a governor.
var running atomic.Bool

const (
	// containerPeriod: a container is resized a few times in its life, and to read the limit takes some ten
	// system calls.
	containerPeriod = 10 * time.Second
	// restful: the governor waits a hundred times as long as a look took (Options.Period).
	restful = 100
	// hakmemPage: hakmem rounds limits up to its pages.
	hakmemPage = 64 << 10
)

// Start divides the total for the first time and begins to watch, on a goroutine of its own. It returns
// [ErrRunning] if another governor runs, or an error that names a value of o that cannot be used and what to
// do about it; then nothing has changed. Any goroutine.
//
// The caller owns the governor, and ends it with Close.
func Start(o Options) (*Governor, error) { return start(o, newProcess()) }

// start is Start in another process.
func start(o Options, p process) (*Governor, error) {
	container := p.container()
	o, err := o.checked(container)
	if err != nil {
		return nil, err
	}
	if !running.CompareAndSwap(false, true) {
		return nil, ErrRunning
	}
	g := &Governor{process: p, options: o, container: container, readAt: p.since(), stop: make(chan struct{}), stopped: make(chan struct{})}
	ofGo, h := p.read()
	g.limit = newLever(ofGo.limit, p.env("GOMEMLIMIT") != "off")
	if !g.limit.ours {
		g.reports.add(aboutGoLimit, errors.New("governor: GOMEMLIMIT=off: Go's limit is not moved, and Go's heap may exceed its part: unset GOMEMLIMIT to have the total kept"))
	}
	g.percent = newLever(ofGo.percent, p.env("GOGC") == "" && ofGo.percent == goPercent)
	g.hakmem = newLever(h.limits, true)
	g.look()
	go g.run()
	return g, nil
}

// Close ends the governor and puts back the limits and the GC percent that Start found, except for those
// that something else has set meanwhile. Callbacks that run are not waited for; no others begin. After the
// first call it does nothing.
func (g *Governor) Close() {
	g.close.Do(func() {
		close(g.stop)
		<-g.stopped
		pressed.end()
		g.restore()
		running.Store(false)
	})
}

// Err returns what went wrong and was survived, joined into one error; nil if nothing did. It names limits
// that the governor moves no more because something else has set them, with the value; callbacks that
// panicked or hang; and a container's limit that is no longer there. Each is reported once and stays. It
// works after Close, too.
func (g *Governor) Err() error { return g.reports.err() }

// run looks again and again until Close.
func (g *Governor) run() {
	defer close(g.stopped)
	took := time.Duration(0)
	for {
		select {
		case <-g.stop:
			return
		case <-g.process.after(max(g.options.Period, restful*took)):
		}
		began := g.process.since()
		g.look()
		took = g.process.since() - began
	}
}

// look reads what memory is used for, and moves what is to be moved.
func (g *Governor) look() {
	now := g.process.since()
	g.readContainer(now)
	ofGo, h := g.process.read()
	g.notice(ofGo, h)

	base := g.percent.set
	if g.percent.ours {
		base = g.percent.found
	}
	needed := ofGo.needOf(base)
	if !g.limit.ours { // nothing keeps Go from what it has
		needed.least = max(needed.least, ofGo.used)
		needed.want = max(needed.want, needed.least)
	}
	if !g.hakmem.ours {
		h.least = h.counted
	}
	g.growth.note(h.least)
	d := divide(g.options.budget(g.container), needed, h, g.growth)
	g.apply(g.steady.next(d), d)
	p := g.percent.found // without a limit of the governor's a higher one is not safe
	if g.limit.ours {
		p = heapPercent(ofGo, g.limit.set, g.percent.set)
	}
	if other, foreign := g.percent.move(p, g.process.setPercent); foreign {
		g.percentTaken(other)
	}

	busy := pressed.watch(now)
	if ask := g.asking.next(d.short, ofGo.cycles, busy); ask > 0 && pressed.ask(ask, &g.reports) {
		g.asking.asked(ask, ofGo.cycles)
	}
}

// readContainer reads the container's limit if that is due.
func (g *Governor) readContainer(now time.Duration) {
	if now-g.readAt < containerPeriod {
		return
	}
	g.readAt = now
	limit := g.process.container()
	if limit == 0 && g.container != 0 {
		g.reports.add(aboutContainer, fmt.Errorf("governor: the container's memory limit, %d bytes, is no longer there or cannot be read: it is still kept", g.container))
		return
	}
	g.container = limit
}

// apply sets Go's limit to its part of the budget, and hakmem's soft limit to the rest. The one that
// becomes lower is set first, so that both together are never more than the budget.
func (g *Governor) apply(part uint64, d division) {
	if g.limit.ours {
		part = min(part, g.limit.found)
	}
	soft := max(less(d.budget, part), hakmemPage) / hakmemPage * hakmemPage
	for _, most := range []uint64{g.hakmem.found.soft, g.hakmem.found.hard} {
		if most != 0 {
			soft = min(soft, most)
		}
	}
	if part < g.limit.set {
		g.moveGo(part)
		g.moveHakmem(soft)
	} else {
		g.moveHakmem(soft)
		g.moveGo(part)
	}
}

// moveGo sets Go's limit.
func (g *Governor) moveGo(limit uint64) {
	if other, foreign := g.limit.move(limit, g.process.setLimit); foreign {
		g.limitTaken(other)
	}
}

// moveHakmem sets hakmem's soft limit, and leaves the hard one.
func (g *Governor) moveHakmem(soft uint64) {
	l := &g.hakmem
	if !l.ours || l.set.soft == soft {
		return
	}
	if err := g.setHakmem(limits{soft, l.found.hard}); err != nil {
		g.reports.add(aboutHakmem, fmt.Errorf("governor: hakmem's soft limit of %d bytes: %w", soft, err))
	}
}

// setHakmem sets hakmem's limits. If something else has set them since the governor last looked, they are put
// back.
func (g *Governor) setHakmem(to limits) (err error) {
	before := g.hakmem
	other, foreign := g.hakmem.move(to, func(to limits) limits {
		was, refused := g.process.setHakmem(to)
		if refused != nil {
			err = refused
			return before.set
		}
		return was
	})
	if foreign {
		g.hakmemTaken(other)
	} else if err != nil {
		g.hakmem = before
	}
	return err
}

// notice compares what is in force with what the governor has set. Where something else has set it, the
// governor steps back.
func (g *Governor) notice(ofGo goMemory, h offHeap) {
	if g.limit.notice(ofGo.limit) {
		g.limitTaken(ofGo.limit)
	}
	if g.percent.notice(ofGo.percent) {
		g.percentTaken(ofGo.percent)
	}
	if g.hakmem.notice(h.limits) {
		g.hakmemTaken(h.limits)
	}
}

func (g *Governor) hakmemTaken(other limits) {
	g.reports.add(aboutHakmem, fmt.Errorf("governor: something else has called hakmem.SetMemoryLimit: soft %d and hard %d bytes, where the governor had set %d and %d: hakmem's limits are no longer moved; let only the governor set the soft limit",
		other.soft, other.hard, g.hakmem.set.soft, g.hakmem.set.hard))
}

func (g *Governor) limitTaken(other uint64) {
	g.reports.add(aboutGoLimit, fmt.Errorf("governor: something else has called debug.SetMemoryLimit(%d), where the governor had set %d bytes: Go's limit is no longer moved; let only the governor set it", other, g.limit.set))
}

func (g *Governor) percentTaken(other int) {
	g.reports.add(aboutPercent, fmt.Errorf("governor: something else has called debug.SetGCPercent(%d), where the governor had set %d: the GC percent is no longer moved; set it before Start", other, g.percent.set))
}

// restore puts back what start found, where nothing else has set it.
func (g *Governor) restore() {
	g.notice(g.process.read())
	g.percent.move(g.percent.found, g.process.setPercent)
	g.limit.move(g.limit.found, g.process.setLimit)
	if err := g.setHakmem(g.hakmem.found); err != nil {
		g.reports.add(aboutHakmem, fmt.Errorf("governor: Close: hakmem's limits of %d and %d bytes are not put back: %w", g.hakmem.found.soft, g.hakmem.found.hard, err))
	}
}
