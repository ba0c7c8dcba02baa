package hakmempprof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof" // to see that the handler can be registered next to it
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// needProfile skips the test where blocks have no live state, so that there is no profile.
func needProfile(t *testing.T) {
	t.Helper()
	if !engine.CheckLive {
		t.Skip("skipped: this build does not keep live state (hakmem_nolive), so it has no profile")
	}
}

// exact runs a case in a process in which each block is a sample.
func exact(t *testing.T, name, arg string) {
	t.Helper()
	needProfile(t)
	testkit.InChild(t, name, arg, "HAKMEM_PROFILE_RATE=1")
}

// get asks a handler and returns the answer and its body.
func get(h http.Handler, method, query string) (*http.Response, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, "/debug/pprof/hakmem"+query, nil))
	return w.Result(), w.Body.String()
}

var _ = testkit.Child("bad requests", badRequests)

// badRequests asks for what the handler does not have, and expects a text that names it.
func badRequests(string) error {
	h := handler{wait: func(context.Context, time.Duration) bool { panic("a bad request waits") }}
	for _, x := range []struct {
		method, query string
		status        int
		text          string
	}{
		{"GET", "?seconds=0", 400, `seconds="0"`},
		{"GET", "?seconds=-3", 400, `seconds="-3"`},
		{"GET", "?seconds=1.5", 400, `seconds="1.5"`},
		{"GET", "?seconds=", 400, `seconds=""`},
		{"GET", "?seconds=x", 400, `seconds="x"`},
		{"GET", "?seconds=99999999999999999999", 400, "from 1 to"},
		{"GET", "?seconds=31536001", 400, "from 1 to 31536000"},
		{"GET", "?debug=2", 400, `debug="2"`},
		{"GET", "?debug=true", 400, `debug="true"`},
		{"GET", "?gc=yes", 400, `gc="yes"`},
		{"GET", "?peak=-1", 400, `peak="-1"`},
		{"GET", "?seconds=1&debug=1", 400, "seconds and debug=1"},
		{"GET", "?seconds=1&peak=1", 400, "seconds and peak=1"},
		{"GET", "?second=1", 400, `"second"`},
		{"GET", "?held=2", 400, `held="2"`},
		{"GET", "?held=1&seconds=1", 400, "held=1 goes together with gc=1 only"},
		{"GET", "?held=1&debug=1", 400, "held=1 goes together with gc=1 only"},
		{"GET", "?held=1&peak=1", 400, "held=1 goes together with gc=1 only"},
		{"GET", "?held=1&leaks=1", 400, "held=1 goes together with gc=1 only"},
		{"GET", "?leaks=1&seconds=1", 400, "leaks=1 goes together with gc=1 only"},
		{"GET", "?leaks=1&debug=1", 400, "leaks=1 goes together with gc=1 only"},
		{"GET", "?leaks=1&peak=1", 400, "leaks=1 goes together with gc=1 only"},
		{"GET", "?leaks=yes", 400, `leaks="yes"`},
		{"GET", "?debug=1&debug=0", 400, "debug is given 2 times"},
		{"GET", "?%zz", 400, "cannot be read"},
		{"GET", "?a;b", 400, "cannot be read"},
		{"POST", "", 405, "POST"},
		{"DELETE", "?debug=1", 405, "use GET"},
	} {
		r, body := get(h, x.method, x.query)
		if r.StatusCode != x.status || !strings.Contains(body, x.text) || !strings.HasPrefix(body, "hakmempprof: ") || r.Header.Get("Content-Disposition") != "" {
			return fmt.Errorf("%s %s: status %d, %q, want %d and %s", x.method, x.query, r.StatusCode, body, x.status, x.text)
		}
	}
	return nil
}

// FuzzParse: whatever a client sends, it is either a request that can be served or an error in one line.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "seconds=1", "seconds=31536000&gc=1", "debug=1&peak=1", "seconds=0", "debug=1&debug=1", "%zz", "a;b", "seconds=1&debug=1", "=", "x=%0a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		switch r, err := parse(query); {
		case err == nil && (r.delta < 0 || r.delta > mostSeconds*time.Second || r.delta%time.Second != 0 || r.delta > 0 && (r.text || r.peak || r.leaks)):
			t.Errorf("%q: %+v", query, r)
		case err != nil && (err.Error() == "" || strings.ContainsAny(err.Error(), "\n\r")):
			t.Errorf("%q: %q", query, err)
		}
	})
}

func TestBadRequests(t *testing.T) { exact(t, "bad requests", "") }

// TestOff: without a profile all ways to it say how to get one.
func TestOff(t *testing.T) {
	if engine.ProfileRate() > 0 {
		t.Skip("skipped: HAKMEM_PROFILE_RATE is set")
	}
	var b bytes.Buffer
	if err := WriteProfile(&b); !errors.Is(err, ErrOff) || b.Len() != 0 {
		t.Errorf("WriteProfile: %v, %d bytes", err, b.Len())
	}
	if err := WritePeakProfile(&b); !errors.Is(err, ErrOff) || b.Len() != 0 {
		t.Errorf("WritePeakProfile: %v, %d bytes", err, b.Len())
	}
	if err := WriteHeldProfile(&b); !errors.Is(err, ErrOff) || b.Len() != 0 {
		t.Errorf("WriteHeldProfile: %v, %d bytes", err, b.Len())
	}
	if err := WriteLeaks(&b); !errors.Is(err, ErrOff) || b.Len() != 0 {
		t.Errorf("WriteLeaks: %v, %d bytes", err, b.Len())
	}
	for _, query := range []string{"", "?debug=1", "?seconds=1", "?gc=1", "?held=1", "?leaks=1"} {
		if r, body := get(Handler(), "GET", query); r.StatusCode != 404 || !strings.Contains(body, "HAKMEM_PROFILE_RATE=524288") {
			t.Errorf("%s: status %d, %q", query, r.StatusCode, body)
		}
	}
}

var _ = testkit.Child("requests", requests)

// requests asks for each form of the profile.
func requests(string) error {
	p := hakmem.MallocAt(hakmem.RegisterSite("two\nlines"), 3000)
	defer hakmem.Free(p)
	size := hakmem.UsableSize(p)
	var during unsafe.Pointer
	waited := time.Duration(0)
	h := handler{wait: func(_ context.Context, d time.Duration) bool {
		waited += d
		during = hakmem.Malloc(50_000)
		return true
	}}
	for _, x := range []struct{ query, kind, file string }{
		{"", "application/octet-stream", `attachment; filename="hakmem"`},
		{"?debug=0&gc=1", "application/octet-stream", `attachment; filename="hakmem"`},
		{"?peak=1", "application/octet-stream", `attachment; filename="hakmem"`},
		{"?held=1&gc=1", "application/octet-stream", `attachment; filename="hakmem-held"`},
		{"?seconds=7", "application/octet-stream", `attachment; filename="hakmem-delta"`},
		{"?debug=1", "text/plain; charset=utf-8", ""},
		{"?debug=1&peak=1&gc=1", "text/plain; charset=utf-8", ""},
		{"?leaks=1", "text/plain; charset=utf-8", ""},
		{"?leaks=1&gc=1&held=0", "text/plain; charset=utf-8", ""},
	} {
		r, body := get(h, "GET", x.query)
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != x.kind || r.Header.Get("Content-Disposition") != x.file || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			return fmt.Errorf("%s: status %d, headers %v", x.query, r.StatusCode, r.Header)
		}
		if gzipped := strings.HasPrefix(body, "\x1f\x8b"); gzipped != (x.file != "") {
			return fmt.Errorf("%s: the body begins with %.20q", x.query, body)
		}
	}
	if waited != 7*time.Second || during == nil {
		return fmt.Errorf("seconds=7 waits for %v", waited)
	}
	_, text := get(h, "GET", "?debug=1")
	lines := strings.Split(text, "\n")
	all := uint64(size) + uint64(hakmem.UsableSize(during))
	if want := fmt.Sprintf("heap profile: 2: %d [2: %d] @ heap/2", all, all); lines[0] != want {
		return fmt.Errorf("the text begins with %q, want %q", lines[0], want)
	}
	if first := fmt.Sprintf("1: %d [1: %d] @ 0x", hakmem.UsableSize(during), hakmem.UsableSize(during)); !strings.HasPrefix(lines[1], first) {
		return fmt.Errorf("the second line is %q: want the bucket with the most bytes, %q", lines[1], first)
	}
	if !slices.Contains(lines, "#\tsite two lines") || !strings.Contains(text, "hakmempprof_test.go:") {
		return fmt.Errorf("no site, or no line of this file, in\n%s", text)
	}
	hakmem.Free(during)
	// A client that leaves.
	w := httptest.NewRecorder()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("gone"))
	handler{wait: wait}.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/debug/pprof/hakmem?seconds=3600", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "gone") {
		return fmt.Errorf("a client that leaves: status %d, %q", w.Code, w.Body)
	}
	return nil
}

func TestRequests(t *testing.T) { exact(t, "requests", "") }

var _ = testkit.Child("served", served)

// served asks a real server, whose limit for writing is shorter than the time that is asked for.
func served(string) error {
	mux := http.NewServeMux()
	mux.Handle("/", http.DefaultServeMux)
	mux.Handle("GET /debug/pprof/hakmem", Handler())
	http.Handle("GET /debug/pprof/hakmem", Handler()) // next to net/http/pprof's patterns: no panic
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, WriteTimeout: 200 * time.Millisecond}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	r, err := http.Get("http://" + l.Addr().String() + "/debug/pprof/hakmem?seconds=1")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 || !bytes.HasPrefix(body, []byte("\x1f\x8b")) {
		return fmt.Errorf("status %d, %v, %.80q", r.StatusCode, err, body)
	}
	return nil
}

func TestServed(t *testing.T) { exact(t, "served", "") }

// failing is a writer that fails after some bytes.
type failing struct{ left int }

var errFull = errors.New("full")

func (f *failing) Write(b []byte) (int, error) {
	if len(b) > f.left {
		return f.left, errFull
	}
	f.left -= len(b)
	return len(b), nil
}

var _ = testkit.Child("failing writer", failingWriter)

// failingWriter expects the error of a writer, wherever it fails.
func failingWriter(string) error {
	defer hakmem.Free(hakmem.Malloc(10))
	var whole bytes.Buffer
	if err := WriteProfile(&whole); err != nil {
		return err
	}
	for n := range whole.Len() - 40 { // the time of the next one may take more or fewer bytes
		if err := WriteProfile(&failing{n}); !errors.Is(err, errFull) {
			return fmt.Errorf("a writer that takes %d of %d bytes: %v", n, whole.Len(), err)
		}
	}
	return nil
}

func TestFailingWriter(t *testing.T) { exact(t, "failing writer", "") }

// holds and drops allocate for the tool to show.
//
//go:noinline
func holds(n int) (blocks []unsafe.Pointer) {
	for range n {
		blocks = append(blocks, hakmem.Malloc(1<<20))
	}
	return blocks
}

//go:noinline
func drops() { hakmem.Free(hakmem.Malloc(3 << 20)) }

var _ = testkit.Child("files for the tool", filesForTool)

// filesForTool writes two profiles and the one at the peak.
func filesForTool(dir string) error {
	write := func(name string, f func(io.Writer) error) error {
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		return errors.Join(f(file), file.Close())
	}
	blocks := holds(5)
	if err := write("before", WriteProfile); err != nil {
		return err
	}
	drops()
	more := holds(4)
	if err := write("after", WriteProfile); err != nil {
		return err
	}
	for _, p := range append(blocks, more...) {
		hakmem.Free(p)
	}
	_, text := get(Handler(), "GET", "?debug=1")
	return errors.Join(write("peak", WritePeakProfile), write("end", WriteProfile),
		write("text", func(w io.Writer) error { _, err := io.WriteString(w, text); return err }))
}

// TestTool: go tool pprof shows the profile, the difference of two, the one at the peak, and the text.
func TestTool(t *testing.T) {
	dir := t.TempDir()
	exact(t, "files for the tool", dir)
	if out, err := exec.Command("go", "tool", "pprof", "-h").CombinedOutput(); !bytes.Contains(out, []byte("-top")) {
		t.Skipf("skipped: go tool pprof does not work: %v: %.200s", err, out)
	}
	for _, x := range []struct {
		args string
		want []string // regular expressions
	}{
		{"-top before", []string{`Type: inuse_space`, `5MB\s+100%.*hakmempprof\.holds`}},
		{"-top -base=before after", []string{`4MB\s+100%.*hakmempprof\.holds`}},
		{"-top -sample_index=alloc_space after", []string{`Type: alloc_space`, `9MB.*hakmempprof\.holds`, `3MB.*hakmempprof\.drops`}},
		{"-top -sample_index=alloc_objects after", []string{`9\s+90.00%.*hakmempprof\.holds`}},
		{"-top peak", []string{`9MB\s+100%.*hakmempprof\.holds`}},
		{"-top -sample_index=inuse_objects end", []string{`Type: inuse_objects`, `of 0 total|Showing nodes accounting for 0`}},
		{"-list=holds before", []string{`5MB\s+5MB.*blocks = append\(blocks, hakmem\.Malloc\(1<<20\)\)`}},
		{"-tags before", []string{`bytes: Total 5`, `1MB`}},
		{"-top -sample_index=alloc_space text", []string{`12MB total`}}, // it has no names for the tool, as Go's text has none
		{"-raw before", []string{`PeriodType: space bytes`, `Period: 1`, `alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes\[dflt\]`, `\[FN\]`}},
	} {
		t.Run(x.args, func(t *testing.T) {
			cmd := exec.Command("go", append([]string{"tool", "pprof"}, strings.Fields(x.args)...)...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range x.want {
				if !regexp.MustCompile(want).Match(out) {
					t.Errorf("no %s in\n%s", want, out)
				}
			}
			if bytes.Contains(out, []byte("hakmem.Malloc\n")) || bytes.Contains(out, []byte("hakmem/internal/engine")) {
				t.Errorf("functions of hakmem's own in\n%s", out)
			}
		})
	}
}
