package browser

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemhttp"
)

// browsers are the names under which systems have Chromium.
var browsers = []string{"chromium", "chromium-browser", "google-chrome", "chrome", "headless-shell"}

// shotsVar is the environment variable that names a directory for pictures of what the browser shows.
const shotsVar = "HAKMEM_PROOF_SCREENSHOTS"

// patience is how long the page may take for anything, on a machine that is busy with other tests.
const patience = 90 * time.Second

// newBrowser starts a browser. It skips the test where there is none.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped with -short: a browser takes some 20 s")
	}
	program := ""
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skipf("skipped: none of %s is installed (Debian's package chromium)", strings.Join(browsers, ", "))
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program),
		chromedp.NoSandbox) // its sandbox does not start as root, which containers run tests as
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Skipf("skipped: %s does not start: %v", program, err)
	}
	return ctx
}

// work keeps blocks of many sizes moving until the test ends: slabs, large blocks, sites, memory that is freed
// and taken again.
func work(t *testing.T) {
	site := hakmem.RegisterSite("browser test")
	done, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		r := rand.New(rand.NewPCG(1, 2))
		var held []unsafe.Pointer
		for step := 0; ; step++ {
			select {
			case <-done:
				for _, p := range held {
					hakmem.Free(p)
				}
				return
			case <-time.After(5 * time.Millisecond):
			}
			for range 100 { // grows for 2 s, and shrinks for 2 s
				if step%800 < 400 {
					size := 16 << r.IntN(17)
					p := hakmem.MallocAt(site, uintptr(size))
					if p == nil {
						panic(hakmem.Err())
					}
					clear(unsafe.Slice((*byte)(p), min(size, 256<<10)))
					held = append(held, p)
				}
				for len(held) > 0 && (step%800 >= 400 || len(held) > 2000) {
					i := r.IntN(len(held))
					hakmem.Free(held[i])
					held[i] = held[len(held)-1]
					held = held[:len(held)-1]
					if step%800 >= 400 {
						break
					}
				}
			}
		}
	}()
}

// marks returns what a plot shows: how many pixels of its canvas are painted, or how many bars have a length, and
// a text that changes with them. A plot over time is looked at within its axes.
const marks = `(name => {
	const section = document.querySelector('[data-plot=' + name + ']');
	const canvas = section.querySelector('canvas');
	if (!canvas) {
		const bars = [...section.querySelectorAll('.track i')].filter(b => b.getBoundingClientRect().width > 0);
		return {n: bars.length, least: 0, now: section.querySelector('.bars').innerText + bars.map(b => b.style.width)};
	}
	const over = section.querySelector('.u-over');
	let [x, y, w, h] = [0, 0, canvas.width, canvas.height];
	if (over) {
		const scale = canvas.width / canvas.getBoundingClientRect().width, at = over.getBoundingClientRect(), of = canvas.getBoundingClientRect();
		[x, y, w, h] = [at.left - of.left, at.top - of.top, at.width, at.height].map(n => Math.round(n * scale));
	}
	const grid = getComputedStyle(document.documentElement).getPropertyValue('--line').trim();
	const line = [1, 3, 5].map(i => parseInt(grid.slice(i, i + 2), 16));
	const d = canvas.getContext('2d').getImageData(x, y, w, h).data;
	let n = 0, hash = 0;
	for (let i = 0; i < d.length; i += 4) {
		const painted = d[i + 3] > 128 && !line.every((c, j) => Math.abs(c - d[i + j]) < 8);
		if (painted) n++;
		hash = (hash * 31 + (painted ? d[i] + 1 : 0)) | 0;
	}
	return {n, least: 20, now: String(hash)};
})`

var plots = strings.Fields("resident freed faults slow stalls region classes sites")

type mark struct {
	N   int    `json:"n"`
	Now string `json:"now"`
}

// TestPage opens the page while a workload runs, as screens of several kinds show it. Each plot has marks, which
// move; each has a title, a unit and a sentence; nothing is wider than the screen; nothing of the page is refused
// or fails.
func TestPage(t *testing.T) {
	browser := newBrowser(t)
	work(t)
	mux := http.NewServeMux()
	page := hakmemhttp.NewHandler(hakmemhttp.Options{AllowTrim: true})
	var trimmed atomic.Int32
	mux.HandleFunc("/debug/hakmem/", func(w http.ResponseWriter, r *http.Request) {
		page.ServeHTTP(w, r)
		if r.Method == http.MethodPost {
			trimmed.Add(1)
		}
	})
	mux.HandleFunc("GET /debug/pprof/hakmem", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for _, x := range []struct {
		name          string
		width, height int64
		scheme        string
	}{{"wide", 1280, 900, "light"}, {"narrow", 390, 844, "light"}, {"dark", 1280, 900, "dark"}, {"narrow and dark", 390, 844, "dark"}} {
		t.Run(x.name, func(t *testing.T) {
			ctx, cancel := chromedp.NewContext(browser)
			defer cancel()
			ctx, cancel = context.WithTimeout(ctx, patience)
			defer cancel()
			wrong := complaints(t, ctx)
			do := func(actions ...chromedp.Action[chromedp.Void]) {
				t.Helper()
				if err := chromedp.Do(ctx, actions...); err != nil {
					t.Fatal(err)
				}
			}
			until := func(expression string) chromedp.Action[chromedp.Void] {
				return chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(patience))
			}
			do(chromedp.EmulateViewport(x.width, x.height))
			call(t, ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: x.scheme}}})
			do(chromedp.Navigate(server.URL+"/debug/hakmem/"), until(`charts && charts[0].times.length > 3`))
			was := map[string]mark{}
			for _, plot := range plots {
				// Freed memory is returned in bursts, so a plot may be empty for a while.
				do(until(fmt.Sprintf("(m => m.n > m.least)(%s(%q))", marks, plot)))
				was[plot] = evaluate[mark](t, ctx, fmt.Sprintf("%s(%q)", marks, plot))
			}
			for _, plot := range plots {
				do(until(fmt.Sprintf("%s(%q).now !== %q", marks, plot, was[plot].Now)))
			}
			look := evaluate[struct {
				Width, Inner int64
				Back, Ink    []float64
				Bare         []string
				Legends      int
				State        string
				Profile      string
			}](t, ctx, `(() => {
				const color = c => getComputedStyle(document.body)[c].match(/[\d.]+/g).slice(0, 3).map(Number);
				const sections = [...document.querySelectorAll('[data-plot]')];
				return {Width: document.documentElement.scrollWidth, Inner: innerWidth, Back: color('backgroundColor'), Ink: color('color'),
					Bare: sections.filter(s => !s.querySelector('h2') || !s.querySelector('.unit')?.innerText || (s.querySelector('p')?.innerText || '').length < 60).map(s => s.dataset.plot),
					Legends: [...document.querySelectorAll('.legend b')].filter(b => /\d/.test(b.innerText)).length,
					State: document.getElementById('state').innerText, Profile: document.querySelector('#profile a').pathname};
			})()`)
			if look.Width > look.Inner {
				t.Errorf("the page is %d pixels wide on a screen of %d", look.Width, look.Inner)
			}
			if light := look.Back[0]+look.Back[1]+look.Back[2] > look.Ink[0]+look.Ink[1]+look.Ink[2]; light != (x.scheme == "light") {
				t.Errorf("the background is %v and the text %v in the scheme %s", look.Back, look.Ink, x.scheme)
			}
			if len(look.Bare) > 0 {
				t.Errorf("no title, no unit or no sentence: %v", look.Bare)
			}
			if look.Legends < 15 || look.State != "live" || look.Profile != "/debug/pprof/hakmem" {
				t.Errorf("%d values in legends, the state %q, the profile at %q", look.Legends, look.State, look.Profile)
			}
			if dir := os.Getenv(shotsVar); dir != "" {
				shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(x.name, " ", "-")+".png"), shot, 0o644)
				}
				if err != nil {
					t.Error(err)
				}
			}
			// The buttons.
			click := func(id, want string) { t.Helper(); do(chromedp.Click(chromedp.ID(id)), until(want)) }
			click("pause", `document.getElementById('state').innerText === 'paused'`)
			click("pause", `document.getElementById('state').innerText === 'live'`)
			trims := trimmed.Load()
			click("trim", `!document.getElementById('trim').disabled`)
			if trimmed.Load() == trims {
				t.Error("the button Trim did not reach the program")
			}
			if all := wrong(); len(all) > 0 {
				t.Errorf("the browser complains: %q", all)
			}
		})
	}
}

// complaints collects what a tab has to say from now on: exceptions that nobody caught, and errors, among them
// what the page's security policy refused.
func complaints(t *testing.T, ctx context.Context) func() []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	err := chromedp.Listen(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			all = append(all, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				all = append(all, e.Entry.Text+" "+e.Entry.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	call(t, ctx, log.Enable, cdp.Empty{})
	call(t, ctx, runtime.Enable, cdp.Empty{})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// call calls a command of the browser's protocol.
func call[P, R any](t *testing.T, ctx context.Context, command cdp.Command[P, R], params P) {
	t.Helper()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		t.Fatal(err)
	}
}

// evaluate returns the value of an expression in the page.
func evaluate[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
