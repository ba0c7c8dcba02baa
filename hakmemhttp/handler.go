// Package hakmemhttp shows a program's hakmem memory in a browser while the program runs:
//
//	http.Handle("/debug/hakmem/", hakmemhttp.Handler())
//	http.ListenAndServe("localhost:6060", nil)
//
// The page http://localhost:6060/debug/hakmem/ then shows, second by second, what memory is resident and for
// what, what became of freed memory, page faults and slow paths, a map of the region, size classes, sites, and
// in words what hakmem has decided. The command `hakmem top http://localhost:6060` shows the same in a terminal.
// Everything comes from the program itself; the page loads nothing from elsewhere.
//
// The page only looks, unless Options.AllowTrim gives it a button. By default only programs on the same machine
// are served, and only under a name that stands for this machine, so that a web page from elsewhere cannot read
// it by a name that it makes point here. Options.Hosts opens it to others.
//
// It is a package of its own because it brings net/http along. Importing it registers nothing.
package hakmemhttp

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/export"
)

// Options say what the page may do and who may see it. The zero value is what Handler uses.
type Options struct {
	// AllowTrim gives the page a button that calls hakmem.Trim. Whoever may see the page may press it. A Trim
	// costs what was returned too early: page faults.
	AllowTrim bool
	// Hosts are further names under which the page may be asked for, without a port: "metrics.example.org",
	// "10.0.0.7". With any, programs on other machines are served too, if they use one of these names. That
	// is no password: who may connect is for the program's author to decide, by the address that the server
	// listens at or by a handler around this one.
	Hosts []string
	// MaxSites is how many sites are named, those with the most live bytes. The others are added up. 0 stands
	// for 100, and a negative number for none.
	MaxSites int
	// Profile is the path at which the program serves hakmem's heap profile. The page links to it. Empty
	// stands for "/debug/pprof/hakmem".
	Profile string
}

// Handler returns a handler of the page with the default Options. See NewHandler.
func Handler() http.Handler { return NewHandler(Options{}) }

// NewHandler returns a handler of the page. Register it with a pattern that ends with a slash, at any path, with
// http.StripPrefix around it or not. Behind that slash it serves
//
//	(nothing)    the page, and its parts page.js, page.css, uplot.js and uplot.css
//	stats        the statistics of the moment, as JSON
//	stream       the same again and again, as server-sent events, for as long as the client listens
//	trim         by POST: calls hakmem.Trim, with Options.AllowTrim
//
// and refuses everything else. The fields of the JSON may change with any release.
//
// While somebody listens, the statistics are read once a second for all listeners together, and less often if a
// reading takes more than 10 ms, down to once a minute, so that readings take 1 % of one core up to some 20 GiB in
// use. While nobody listens, nothing is read and no goroutine runs. At most 32 clients may listen. A client that takes nothing for 10 seconds is
// dropped. The WriteTimeout of the server does not end a stream; its Shutdown does.
//
// NewHandler panics if a field of o makes no sense. Any goroutine may call it, and use the handler.
func NewHandler(o Options) http.Handler {
	access, err := newAccess(o.Hosts)
	if err == nil && o.Profile != "" && (!strings.HasPrefix(o.Profile, "/") || strings.HasPrefix(o.Profile, "//")) {
		err = fmt.Errorf("the Profile %q is no path of this server: write one that begins with a slash, as /debug/pprof/hakmem does", o.Profile)
	}
	if err != nil {
		panic("hakmemhttp: " + err.Error())
	}
	s := &export.Sampler{Sites: export.DefaultSites, Trim: o.AllowTrim, Profile: "/debug/pprof/hakmem"}
	if o.MaxSites != 0 {
		s.Sites = export.MaxSites(o.MaxSites)
	}
	if o.Profile != "" {
		s.Profile = o.Profile
	}
	return &handler{access: access, allowTrim: o.AllowTrim, hub: newHub(s), patience: patience}
}

type handler struct {
	access    access
	allowTrim bool
	hub       *hub
	patience  time.Duration
	trimming  sync.Mutex // held while a Trim runs
}

//go:embed page uplot
var files embed.FS

// static are the files of the page, by the name that they are served under, with their types.
var static = map[string]struct{ file, contentType string }{
	"":          {"page/page.html", "text/html; charset=utf-8"},
	"page.js":   {"page/page.js", "text/javascript; charset=utf-8"},
	"page.css":  {"page/page.css", "text/css; charset=utf-8"},
	"uplot.js":  {"uplot/uPlot.iife.min.js", "text/javascript; charset=utf-8"},
	"uplot.css": {"uplot/uPlot.min.css", "text/css; charset=utf-8"},
}

// policy is what a browser may do for the page: load its own files and talk to its own server.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cache-Control", "no-store") // a new build of the program has a new page
	if err := h.access.check(r); err != nil {
		http.Error(w, "hakmemhttp: "+err.Error(), http.StatusForbidden)
		return
	}
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	methods := []string{http.MethodGet, http.MethodHead}
	if name == "trim" {
		methods = []string{http.MethodPost}
	}
	if !slices.Contains(methods, r.Method) {
		head.Set("Allow", strings.Join(methods, ", "))
		http.Error(w, fmt.Sprintf("hakmemhttp: %s is not for %q: use %s", r.Method, name, strings.Join(methods, " or ")), http.StatusMethodNotAllowed)
		return
	}
	switch file, ok := static[name]; {
	case name == "stats":
		h.stats(w, r)
	case name == "stream":
		h.stream(w, r)
	case name == "trim":
		h.trim(w, r)
	case ok:
		head.Set("Content-Security-Policy", policy)
		head.Set("Content-Type", file.contentType)
		text, err := files.ReadFile(file.file)
		if err != nil { // the file was compiled into the program, so this does not happen
			http.Error(w, "hakmemhttp: "+err.Error(), http.StatusInternalServerError)
			return
		}
		head.Set("Content-Length", fmt.Sprint(len(text)))
		w.Write(text) // a browser that has gone needs no answer
	default:
		http.Error(w, fmt.Sprintf("hakmemhttp: there is no %q here: ask for the page (a path that ends with a slash), stats or stream", name), http.StatusNotFound)
	}
}

// stats serves one sample.
func (h *handler) stats(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodHead {
		w.Write(h.hub.one()) // a client that has gone needs no answer
	}
}

// stream serves samples until the client goes.
func (h *handler) stream(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	// The server's limits on the time of a request are not for this one. Where there is no way to move them
	// they end the stream, and the client asks again.
	_, _ = rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Now().Add(h.patience))
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	c, err := h.hub.join(serverOf(r))
	if err != nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "hakmemhttp: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer h.hub.leave(c)
	if err := rc.Flush(); err != nil {
		if errors.Is(err, http.ErrNotSupported) {
			http.Error(w, "hakmemhttp: a handler around this one hides http.Flusher: give its ResponseWriter an Unwrap method, or use stats", http.StatusInternalServerError)
		}
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case event, more := <-c.events:
			if !more {
				return
			}
			_ = rc.SetWriteDeadline(time.Now().Add(h.patience))
			if _, err := w.Write(event); err != nil {
				return
			}
			if rc.Flush() != nil {
				return
			}
		}
	}
}

// trim calls Trim if the program's author allows that.
func (h *handler) trim(w http.ResponseWriter, r *http.Request) {
	switch err := http.NewCrossOriginProtection().Check(r); {
	case !h.allowTrim:
		http.Error(w, "hakmemhttp: this program does not allow Trim from here (Options.AllowTrim)", http.StatusForbidden)
	case err != nil:
		http.Error(w, "hakmemhttp: a page from elsewhere may not ask for a Trim: "+err.Error(), http.StatusForbidden)
	case !h.trimming.TryLock():
		http.Error(w, "hakmemhttp: a Trim is running: wait until it is done", http.StatusConflict)
	default:
		defer h.trimming.Unlock()
		hakmem.Trim()
		w.WriteHeader(http.StatusNoContent)
	}
}

// encode returns a sample as JSON. Its numbers are finite (export.Sampler), so there is no error.
func encode(x export.Sample) []byte {
	text, err := json.Marshal(x)
	if err != nil {
		panic("hakmemhttp: " + err.Error())
	}
	return text
}
