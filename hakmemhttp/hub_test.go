package hakmemhttp

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/export"
)

// ticks is a clock whose timers the test ends.
type ticks struct {
	asked   chan time.Duration // a hub waits
	c       chan time.Time     // ends its wait
	stopped chan bool          // it has given up waiting
}

// tickingHub returns a hub with such a clock.
func tickingHub() (*hub, *ticks) {
	h := newHub(&export.Sampler{Sites: export.DefaultSites})
	k := &ticks{make(chan time.Duration), make(chan time.Time), make(chan bool)}
	h.clock.after = func(d time.Duration) (<-chan time.Time, func() bool) {
		k.asked <- d
		return k.c, func() bool { k.stopped <- true; return true }
	}
	return h, k
}

// event decodes what a client gets.
func event(t *testing.T, text []byte) (s export.Sample) {
	t.Helper()
	data, ok := strings.CutPrefix(string(text), "data: ")
	if !ok || strings.Count(data, "\n") != 2 || !strings.HasSuffix(data, "\n\n") {
		t.Fatalf("no event: %q", text)
	}
	if err := json.Unmarshal([]byte(data), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHub: one goroutine reads for all clients, a slow client gets the newest, and nobody reads when all have gone.
func TestHub(t *testing.T) {
	h, k := tickingHub()
	join := func() *client {
		t.Helper()
		c, err := h.join(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := join()
	if d := <-k.asked; d < every {
		t.Errorf("the next reading is after %v", d)
	}
	first := <-a.events
	b := join()
	if got := <-b.events; string(got) != string(first) {
		t.Error("a client that joins does not get the last event at once")
	}
	if h.count != 1 {
		t.Errorf("%d readings for two clients, want 1", h.count)
	}
	for range 3 { // b takes nothing
		k.c <- time.Time{}
		<-k.asked
	}
	newest := event(t, <-a.events)
	if slow := event(t, <-b.events); slow.Time != newest.Time || slow.Time < event(t, first).Time {
		t.Errorf("a slow client gets the event of %d, the newest is of %d", slow.Time, newest.Time)
	}
	if newest.Words == "" {
		t.Error("an event without the words of an earlier one")
	}
	h.leave(a)
	k.c <- time.Time{} // goes on for b
	<-k.asked
	h.leave(b)
	<-k.stopped
	if h.idle != nil || h.last != nil || h.count != 5 {
		t.Errorf("after all have left: %d readings, last event %q", h.count, h.last)
	}
	c := join()
	<-k.asked
	if n := event(t, <-c.events); n.Time < newest.Time || h.count != 6 {
		t.Errorf("a client that joins later gets the event of %d after %d readings", n.Time, h.count)
	}
	h.leave(c)
	h.leave(c) // as after a shutdown
	<-k.stopped
}

// TestHubIsBounded: no more clients than maxClients.
func TestHubIsBounded(t *testing.T) {
	h, k := tickingHub()
	var all []*client
	for range maxClients {
		c, err := h.join(nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	<-k.asked
	if _, err := h.join(nil); err != errFull {
		t.Errorf("one more client: %v", err)
	}
	h.leave(all[0])
	if c, err := h.join(nil); err != nil {
		t.Error(err)
	} else {
		all[0] = c
	}
	for _, c := range all {
		h.leave(c)
	}
	<-k.stopped
}

// TestPause: readings take at most a hundredth of a core.
func TestPause(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: time.Second, time.Millisecond: time.Second, 10 * time.Millisecond: time.Second,
		30 * time.Millisecond: 3 * time.Second, time.Second: time.Minute,
	} {
		if got := pause(took); got != want {
			t.Errorf("a reading of %v is followed by %v, want %v", took, got, want)
		}
	}
}
