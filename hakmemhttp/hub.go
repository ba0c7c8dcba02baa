package hakmemhttp

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/hakmem/hakmem/internal/export"
)

const (
	// every is the time from one reading to the next: as often as a reader follows.
	every = time.Second
	// share is how many times as long as a reading itself the time to the next one is at least: readings take
	// 1 % of a core. longest is the longest such time, so that the page does not seem to be dead.
	share   = 100
	longest = time.Minute
	// wordsEvery is how many readings have the words of Explain and the board once, which cost as much as a reading.
	wordsEvery = 10
	// patience is how long a client may take nothing.
	patience = 10 * time.Second
	// maxClients is how many clients may listen: more than there are people who look at one program. Each one
	// has a goroutine and takes some 20 KB a second.
	maxClients = 32
)

var errFull = errors.New("32 clients listen already: close one of them, or ask for stats")

// hub reads the statistics for all clients together. A goroutine runs while there are clients.
type hub struct {
	// reading admits one reader at a time. It is taken before mu.
	reading sync.Mutex
	sampler *export.Sampler
	count   int    // readings so far
	words   string // what Explain said last

	mu      sync.Mutex
	clients map[*client]*http.Server
	servers map[*http.Server]bool // those whose Shutdown ends the streams
	idle    chan struct{}         // closed when the last client has left; nil while no goroutine runs
	last    []byte                // the last event, while a goroutine runs

	clock clock
}

// clock is what a hub needs of the time. Tests inject their own.
type clock struct {
	now   func() time.Time
	after func(time.Duration) (c <-chan time.Time, stop func() bool)
}

// client is one listener.
type client struct {
	events chan []byte // has room for one: a slow client gets the newest
}

func newHub(s *export.Sampler) *hub {
	return &hub{
		sampler: s, clients: map[*client]*http.Server{}, servers: map[*http.Server]bool{},
		clock: clock{now: time.Now, after: func(d time.Duration) (<-chan time.Time, func() bool) {
			t := time.NewTimer(d)
			return t.C, t.Stop
		}},
	}
}

// serverOf returns the server that a request came to, or nil if a test made the request.
func serverOf(r *http.Request) *http.Server {
	s, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	return s
}

// join adds a client, which has to leave. If nobody listened before, it starts to read.
func (h *hub) join(s *http.Server) (*client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) >= maxClients {
		return nil, errFull
	}
	c := &client{events: make(chan []byte, 1)}
	if h.last != nil {
		c.events <- h.last
	}
	h.clients[c] = s
	if s != nil && !h.servers[s] {
		h.servers[s] = true
		s.RegisterOnShutdown(func() { h.endAll(s) })
	}
	if h.idle == nil {
		h.idle = make(chan struct{})
		go h.run(h.idle)
	}
	return c, nil
}

// leave takes a client out. It may have been taken out by endAll.
func (h *hub) leave(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
	h.stopIdle()
}

// endAll ends the streams of a server that shuts down.
func (h *hub) endAll(s *http.Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c, of := range h.clients {
		if of == s {
			delete(h.clients, c)
			close(c.events)
		}
	}
	delete(h.servers, s)
	h.stopIdle()
}

// stopIdle stops the goroutine if nobody listens. Under mu.
func (h *hub) stopIdle() {
	if len(h.clients) == 0 && h.idle != nil {
		close(h.idle)
		h.idle, h.last = nil, nil
	}
}

// run reads and sends until idle is closed.
func (h *hub) run(idle chan struct{}) {
	for {
		event, next := h.read()
		h.mu.Lock()
		if h.idle != idle { // the last client has left, and perhaps another one has come
			h.mu.Unlock()
			return
		}
		h.last = event
		for c := range h.clients {
			select {
			case <-c.events: // it did not take the one before
			default:
			}
			c.events <- event
		}
		h.mu.Unlock()
		tick, stop := h.clock.after(next)
		select {
		case <-tick:
		case <-idle:
			stop()
			return
		}
	}
}

// read makes an event, and says how long to wait for the next one.
func (h *hub) read() (event []byte, next time.Duration) {
	text, next := h.sample(false)
	event = append(event, "data: "...)
	event = append(event, text...)
	return append(event, "\n\n"...), next
}

// one makes a sample for one request.
func (h *hub) one() []byte {
	text, _ := h.sample(true)
	return text
}

// sample makes a sample as JSON, and says how long to wait for the next one. With fresh, or once in a while, it
// asks for the words anew; otherwise they are those of the last time.
func (h *hub) sample(fresh bool) (text []byte, next time.Duration) {
	h.reading.Lock()
	defer h.reading.Unlock()
	began := h.clock.now()
	asked := fresh || h.count%wordsEvery == 0
	h.count++
	x := h.sampler.Sample(asked)
	if asked {
		h.words = x.Words
	}
	x.Words = h.words
	took := h.clock.now().Sub(began)
	next = pause(took)
	x.Took, x.Every = float64(took.Microseconds())/1000, float64(next.Milliseconds())
	return encode(x), next
}

// pause is the time from the end of a reading that took so long to the next one.
func pause(took time.Duration) time.Duration { return min(max(every, share*took), longest) }
