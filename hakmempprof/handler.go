package hakmempprof

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"time"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/profile/proto"
)

// Handler returns a handler that serves the profile by the conventions of net/http/pprof. Register it with a method, as
// "GET /debug/pprof/hakmem": net/http/pprof registers "GET /debug/pprof/", and the two patterns without a method for
// this one would be a conflict. The parameters of a request are:
//
//   - seconds=N: what was allocated and freed in the next N seconds. The answer comes at their end. It ends early if
//     the client leaves;
//   - debug=1: the samples as text, not scaled. debug=0 is a profile.proto, as without it;
//   - gc=1: run a garbage collection first, so that the memory of Heaps and Arenas that nobody can reach goes back;
//   - peak=1: the profile at the moment with the most live bytes;
//   - held=1: the profile of [WriteHeldProfile];
//   - leaks=1: the list of live blocks of [WriteLeaks], as text.
//
// A parameter with another value, one that is given twice, one that the handler does not know, seconds together
// with debug or peak, and held or leaks together with anything other than gc are answered with status 400 and a text that
// names it; any method other than GET and HEAD with 405; and a program without a profile with 404.
//
// The answer shows names of functions and files, as those of net/http/pprof do: serve it where those may be served. Any
// number of requests may run at the same time.
func Handler() http.Handler { return handler{wait: wait} }

// handler serves the profile. wait waits, and reports whether it did so to the end; tests replace it.
type handler struct {
	wait func(ctx context.Context, d time.Duration) bool
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// request is what a client asks for.
type request struct {
	delta                       time.Duration // 0: everything until now
	text, gc, peak, held, leaks bool
}

// mostSeconds bounds a delta: a year is more than anybody waits for, and as a time.Duration it does not overflow.
const mostSeconds = 365 * 24 * 60 * 60

// parse reads the parameters of a request.
func parse(query string) (r request, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return r, fmt.Errorf("the parameters cannot be read: %w", err)
	}
	flag := func(name, value string) (bool, error) {
		if value != "0" && value != "1" {
			return false, fmt.Errorf("%s=%q: use %s=1, %s=0, or leave it out", name, value, name, name)
		}
		return value == "1", nil
	}
	for name, list := range values {
		if len(list) > 1 {
			return r, fmt.Errorf("%s is given %d times: give it once", name, len(list))
		}
		value := list[0]
		switch name {
		case "seconds":
			n, numErr := strconv.Atoi(value)
			if numErr != nil || n <= 0 || n > mostSeconds {
				return r, fmt.Errorf("seconds=%q: use a whole number of seconds from 1 to %d", value, mostSeconds)
			}
			r.delta = time.Duration(n) * time.Second
		case "debug":
			r.text, err = flag(name, value)
		case "gc":
			r.gc, err = flag(name, value)
		case "peak":
			r.peak, err = flag(name, value)
		case "held":
			r.held, err = flag(name, value)
		case "leaks":
			r.leaks, err = flag(name, value)
		default:
			return r, fmt.Errorf("there is no parameter %q: use seconds, debug, gc, peak, held and leaks", name)
		}
		if err != nil {
			return r, err
		}
	}
	switch {
	case r.delta > 0 && r.text:
		return r, fmt.Errorf("seconds and debug=1 do not go together: leave one out")
	case r.delta > 0 && r.peak:
		return r, fmt.Errorf("seconds and peak=1 do not go together: leave one out")
	case r.held && (r.delta > 0 || r.text || r.peak || r.leaks):
		return r, fmt.Errorf("held=1 goes together with gc=1 only: leave the others out")
	case r.leaks && (r.delta > 0 || r.text || r.peak):
		return r, fmt.Errorf("leaks=1 goes together with gc=1 only: leave the others out")
	}
	return r, nil
}

// ServeHTTP serves the profile.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fail := func(status int, text string) {
		w.Header().Del("Content-Disposition")
		http.Error(w, text, status)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		fail(http.StatusMethodNotAllowed, "hakmempprof: method "+r.Method+": use GET")
		return
	}
	asked, err := parse(r.URL.RawQuery)
	if err != nil {
		fail(http.StatusBadRequest, "hakmempprof: "+err.Error())
		return
	}
	if asked.gc {
		runtime.GC()
	}
	if asked.leaks {
		h.leaks(w, fail)
		return
	}
	var p *proto.Profile
	if asked.held {
		p, err = readHeld()
	} else {
		p, err = read(asked.peak)
	}
	if err != nil {
		fail(http.StatusNotFound, err.Error())
		return
	}
	name := "hakmem"
	if asked.held {
		name = "hakmem-held"
	}
	if asked.delta > 0 {
		if p, err = h.over(w, r, asked, p); err != nil {
			fail(http.StatusServiceUnavailable, "hakmempprof: "+err.Error())
			return
		}
		name = "hakmem-delta"
	}
	if asked.text {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_ = p.WriteText(w) // the client has left
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	_ = p.Write(w) // the client has left
}

// leaks answers with the list of live blocks.
func (h handler) leaks(w http.ResponseWriter, fail func(status int, text string)) {
	if engine.ProfileRate() <= 0 {
		fail(http.StatusNotFound, ErrOff.Error())
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = WriteLeaks(w) // the client has left
}

// over waits as long as the client has asked for and returns what was counted meanwhile.
func (h handler) over(w http.ResponseWriter, r *http.Request, asked request, before *proto.Profile) (*proto.Profile, error) {
	// A server with a limit for writing would cut the answer off before it begins. One that cannot move the limit says so,
	// and if it has none, that does not matter.
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && s.WriteTimeout > 0 {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.WriteTimeout + asked.delta)); err != nil {
			return nil, fmt.Errorf("seconds: the server's WriteTimeout cannot be extended: %w", err)
		}
	}
	if !h.wait(r.Context(), asked.delta) {
		return nil, fmt.Errorf("seconds: the client has left before they were over: %w", context.Cause(r.Context()))
	}
	if asked.gc {
		runtime.GC()
	}
	now, err := read(false)
	if err != nil {
		return nil, err
	}
	return since(before, now), nil
}
