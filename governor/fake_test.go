package governor

import (
	"sync"
	"testing"
	"time"
)

// fake is a process in which nothing is real. Its clock moves when a test says so.
type fake struct {
	ofGo  goMemory
	h     offHeap
	limit uint64 // the container's
	vars  map[string]string
	clock time.Duration

	// refuse is what setHakmem returns.
	refuse error
	// between is called before a limit is set: something else may set it in between.
	between func()
	// moved counts the calls that set something.
	moved struct{ limit, percent, hakmem int }

	mu    sync.Mutex
	waits []time.Duration    // that after was asked for
	timer chan chan<- timing // tells a test that after was called
}

type timing = time.Time

// newFake is a process with nothing set in which Go has live bytes alive and hakmem counted bytes.
func newFake(live, counted uint64) *fake {
	return &fake{
		ofGo: goMemory{limit: 1<<63 - 1, percent: 100, used: 2 * live, live: live},
		h:    offHeap{counted: counted, least: counted},
	}
}

func (f *fake) read() (goMemory, offHeap) { return f.ofGo, f.h }
func (f *fake) container() uint64         { return f.limit }
func (f *fake) env(name string) string    { return f.vars[name] }
func (f *fake) since() time.Duration      { return f.clock }

func (f *fake) setLimit(bytes uint64) (was uint64) {
	f.interfere()
	f.moved.limit++
	was, f.ofGo.limit = f.ofGo.limit, bytes
	return was
}

func (f *fake) setPercent(p int) (was int) {
	f.interfere()
	f.moved.percent++
	was, f.ofGo.percent = f.ofGo.percent, p
	return was
}

func (f *fake) setHakmem(l limits) (was limits, err error) {
	f.interfere()
	if f.refuse != nil {
		return f.h.limits, f.refuse
	}
	f.moved.hakmem++
	l.soft = (l.soft + hakmemPage - 1) / hakmemPage * hakmemPage
	was, f.h.limits = f.h.limits, l
	return was, nil
}

func (f *fake) interfere() {
	if between := f.between; between != nil {
		f.between = nil
		between()
	}
}

func (f *fake) after(d time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	if f.timer != nil {
		f.mu.Lock()
		f.waits = append(f.waits, d)
		f.mu.Unlock()
		f.timer <- c
	}
	return c
}

// begin starts a governor in f, whose timer never fires unless the test has a f.timer.
func begin(t *testing.T, f *fake, o Options) *Governor {
	t.Helper()
	g, err := start(o, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}
