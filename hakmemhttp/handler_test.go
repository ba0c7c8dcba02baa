package hakmemhttp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/export"
)

// ask sends a request to a handler, from this machine unless change says otherwise.
func ask(h http.Handler, method, target string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	r.Host = "localhost:6060"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestPage: the page has all its parts, loads nothing from elsewhere, and is small.
func TestPage(t *testing.T) {
	const most = 200 << 10
	for _, mount := range []string{"/", "/debug/hakmem/", "/a/b/c/"} {
		size := 0
		w := ask(Handler(), "GET", mount, nil)
		page := w.Body.String()
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || w.Header().Get("Content-Security-Policy") != policy {
			t.Fatalf("%s: %d %v", mount, w.Code, w.Header())
		}
		size += len(page)
		parts := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1)
		if len(parts) < 4 {
			t.Fatalf("the page has the parts %v", parts)
		}
		for _, part := range parts {
			if part[1] == "data:," { // no icon
				continue
			}
			w := ask(Handler(), "GET", mount+part[1], nil)
			if w.Code != 200 || w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s%s: %d %v", mount, part[1], w.Code, w.Header())
			}
			if part[1] != "stats" {
				size += w.Body.Len()
			}
		}
		if size > most {
			t.Errorf("the page has %d bytes, at most %d are wanted", size, most)
		}
	}
	for name, file := range static {
		text, err := files.ReadFile(file.file)
		if err != nil {
			t.Fatal(err)
		}
		// A namespace is a name, and a comment is not loaded.
		for _, url := range regexp.MustCompile(`(?i)(?:src|href|url|import|fetch)\W{1,4}(?:https?:)?//[^\s"')]+`).FindAllString(string(text), -1) {
			t.Errorf("%q loads %s", name, url)
		}
	}
}

// TestRequests: what is served to whom, and what a refusal says.
func TestRequests(t *testing.T) {
	remote := func(r *http.Request) { r.RemoteAddr = "192.0.2.7:1000" }
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	both := func(a, b func(*http.Request)) func(*http.Request) { return func(r *http.Request) { a(r); b(r) } }
	unix := func(r *http.Request) {
		r.RemoteAddr = "@"
		*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Name: "/run/x", Net: "unix"})))
	}
	open := Options{Hosts: []string{"metrics.example.org", "10.0.0.7", "::2"}, AllowTrim: true}
	for _, x := range []struct {
		name, method, target string
		options              Options
		change               func(*http.Request)
		code                 int
		says                 string
	}{
		{"page", "GET", "/x/", Options{}, nil, 200, "<h1>"},
		{"head", "HEAD", "/x/", Options{}, nil, 200, ""},
		{"no slash", "GET", "/x", Options{}, nil, 404, `no "x"`},
		{"directory", "GET", "/x/page/page.js", Options{}, nil, 200, ""},
		{"license", "GET", "/x/LICENSE", Options{}, nil, 404, ""},
		{"127.0.0.1", "GET", "/x/", Options{}, host("127.0.0.1:80"), 200, ""},
		{"127.9.9.9", "GET", "/x/", Options{}, host("127.9.9.9"), 200, ""},
		{"IPv6", "GET", "/x/", Options{}, host("[::1]:80"), 200, ""},
		{"IPv6 without port", "GET", "/x/", Options{}, host("[::1]"), 200, ""},
		{"upper case", "GET", "/x/", Options{}, host("LOCALHOST."), 200, ""},
		{"subdomain", "GET", "/x/", Options{}, host("app.localhost:80"), 200, ""},
		{"another host", "GET", "/x/", Options{}, host("evil.example"), 403, `"evil.example"`},
		{"looks like one", "GET", "/x/", Options{}, host("localhost.evil.example"), 403, "Options.Hosts"},
		{"looks like another", "GET", "/x/", Options{}, host("notlocalhost"), 403, ""},
		{"address of another", "GET", "/x/", Options{}, host("10.0.0.7:80"), 403, ""},
		{"no host", "GET", "/x/", Options{}, host(""), 403, ""},
		{"stats for another host", "GET", "/x/stats", Options{}, host("evil.example"), 403, ""},
		{"stream for another host", "GET", "/x/stream", Options{}, host("evil.example"), 403, ""},
		{"from elsewhere", "GET", "/x/", Options{}, remote, 403, "192.0.2.7"},
		{"Unix socket", "GET", "/x/", Options{}, unix, 200, ""},
		{"open", "GET", "/x/", open, both(remote, host("metrics.example.org:80")), 200, ""},
		{"open, upper case", "GET", "/x/", open, both(remote, host("Metrics.Example.org")), 200, ""},
		{"open, address", "GET", "/x/", open, both(remote, host("10.0.0.7:6060")), 200, ""},
		{"open, IPv6", "GET", "/x/", open, both(remote, host("[::2]:6060")), 200, ""},
		{"open, another", "GET", "/x/", open, both(remote, host("evil.example")), 403, ""},
		{"open, as localhost", "GET", "/x/", open, both(remote, host("localhost")), 403, "same machine"},
		{"open, on this machine", "GET", "/x/", open, nil, 200, ""},
		{"post", "POST", "/x/stats", Options{}, nil, 405, "GET or HEAD"},
		{"stream's head", "HEAD", "/x/stream", Options{}, nil, 200, ""},
		{"trim", "POST", "/x/trim", Options{}, nil, 403, "Options.AllowTrim"},
		{"trim, allowed", "POST", "/x/trim", Options{AllowTrim: true}, nil, 204, ""},
		{"trim, by GET", "GET", "/x/trim", Options{AllowTrim: true}, nil, 405, "POST"},
		{"trim, by another page", "POST", "/x/trim", Options{AllowTrim: true}, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, "elsewhere"},
		{"trim, by another origin", "POST", "/x/trim", Options{AllowTrim: true}, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, 403, "elsewhere"},
		{"trim, by this page", "POST", "/x/trim", Options{AllowTrim: true}, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, 204, ""},
		{"trim, for another host", "POST", "/x/trim", Options{AllowTrim: true}, host("evil.example"), 403, ""},
	} {
		w := ask(NewHandler(x.options), x.method, x.target, x.change)
		if w.Code != x.code || !strings.Contains(w.Body.String(), x.says) {
			t.Errorf("%s: %d %.200q, want %d with %q", x.name, w.Code, w.Body, x.code, x.says)
		}
		if x.code == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s: no header Allow", x.name)
		}
	}
}

// TestOptions: what makes no sense is refused when the handler is made.
func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Hosts: []string{""}}, {Hosts: []string{"example.org:80"}}, {Hosts: []string{"http://example.org"}}, {Hosts: []string{"*"}},
		{Hosts: []string{"10.0.0.0/8"}}, {Profile: "pprof"}, {Profile: "https://example.org/"}, {Profile: "//example.org/"},
	} {
		func() {
			defer func() {
				if e, _ := recover().(string); !strings.HasPrefix(e, "hakmemhttp: the ") || !strings.Contains(e, "write ") {
					t.Errorf("%+v: %q", o, e)
				}
			}()
			NewHandler(o)
		}()
	}
}

// TestTrimOnce: a Trim is not begun while another one runs.
func TestTrimOnce(t *testing.T) {
	h := NewHandler(Options{AllowTrim: true}).(*handler)
	h.trimming.Lock()
	if w := ask(h, "POST", "/trim", nil); w.Code != http.StatusConflict {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.trimming.Unlock()
	if w := ask(h, "POST", "/trim", nil); w.Code != http.StatusNoContent {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestStats: one sample, with the figures of the moment, what the options say, and bounded sites.
func TestStats(t *testing.T) {
	for _, name := range []string{"http a", "http b", "http c"} {
		p := hakmem.MallocAt(hakmem.RegisterSite(name), 1000)
		defer hakmem.Free(p)
	}
	var s export.Sample
	w := ask(NewHandler(Options{MaxSites: 1, Profile: "/p", AllowTrim: true}), "GET", "/stats", nil)
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Figures.Plain["live_bytes"] < 3000 || len(s.Figures.Labelled["site_live_bytes"]) != 2 || s.Profile != "/p" || !s.Trim || s.Words == "" || len(s.Region.Used) == 0 {
		t.Errorf("%+v", s)
	}
	if err := json.Unmarshal(ask(NewHandler(Options{MaxSites: -1}), "GET", "/stats", nil).Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Figures.Labelled["site_live_bytes"]); n != 1 || s.Trim || s.Profile != "/debug/pprof/hakmem" {
		t.Errorf("%d sites with none named, Trim %v, the profile at %q", n, s.Trim, s.Profile)
	}
}

// streaming returns a server on which the test ends each pause between two samples by k.
func streaming(t *testing.T, config func(*http.Server)) (server *httptest.Server, k *ticks) {
	h := Handler().(*handler)
	h.hub, k = tickingHub()
	server = httptest.NewUnstartedServer(h)
	if config != nil {
		config(server.Config)
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, k
}

// listen opens a stream, and returns a function that reads the next event.
func listen(t *testing.T, url string) (next func() ([]byte, error), close func()) {
	t.Helper()
	r, err := http.Get(url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", r.Status, r.Header)
	}
	lines := bufio.NewReader(r.Body)
	return func() ([]byte, error) {
		data, err := lines.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		end, err := lines.ReadBytes('\n')
		return append(data, end...), err
	}, func() { r.Body.Close() }
}

// TestStream: a stream lasts longer than the server's limits on a request, and its clients' end is seen.
func TestStream(t *testing.T) {
	const limit = 500 * time.Millisecond // long enough for the request itself on a busy machine
	server, k := streaming(t, func(s *http.Server) {
		s.WriteTimeout, s.ReadTimeout, s.ReadHeaderTimeout = limit, limit, time.Minute
	})
	next, hangUp := listen(t, server.URL)
	began := time.Now()
	for n := 0; n < 3 || time.Since(began) < 2*limit; n++ {
		<-k.asked
		text, err := next()
		if err != nil {
			t.Fatalf("after %d events and %v: %v", n, time.Since(began), err)
		}
		event(t, text)
		k.c <- time.Time{}
	}
	<-k.asked
	hangUp()
	<-k.stopped
}

// TestShutdown: a server that shuts down does not wait for those who listen.
func TestShutdown(t *testing.T) {
	server, k := streaming(t, nil)
	next, hangUp := listen(t, server.URL)
	defer hangUp()
	<-k.asked
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- server.Config.Shutdown(context.Background()) }()
	<-k.stopped
	if _, err := next(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream goes on: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// pipes is a listener whose connections are pipes, which hold nothing: a write waits for the reader.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestHangingClient: a client that takes nothing is dropped.
func TestHangingClient(t *testing.T) {
	h := NewHandler(Options{Hosts: []string{"pipe.example"}}).(*handler)
	h.patience = 20 * time.Millisecond
	var k *ticks
	h.hub, k = tickingHub()
	go func() { // it may be dropped before or after the first reading
		for {
			select {
			case <-k.asked:
			case <-k.stopped:
			case <-t.Context().Done():
				return
			}
		}
	}()
	at, dropped := pipes{make(chan net.Conn, 1)}, make(chan bool)
	server := &http.Server{Handler: h, ConnState: func(_ net.Conn, is http.ConnState) {
		if is == http.StateClosed {
			close(dropped)
		}
	}}
	served := make(chan error)
	go func() { served <- server.Serve(at) }()
	client, conn := net.Pipe()
	at.conns <- conn
	if _, err := io.WriteString(client, "GET /stream HTTP/1.1\r\nHost: pipe.example\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReaderSize(client, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("%q, %v", line, err)
	}
	<-dropped
	if len(h.hub.clients) != 0 {
		t.Errorf("%d clients are left", len(h.hub.clients))
	}
	close(at.conns)
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	client.Close()
}

// TestNoFlusher: a handler around this one that hides what the stream needs is named.
func TestNoFlusher(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/stream", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:50000", "localhost"
	Handler().ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	if w.Code != 500 || !strings.Contains(w.Body.String(), "Flusher") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
