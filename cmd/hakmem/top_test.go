package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemhttp"
	"github.com/hakmem/hakmem/internal/export"
)

// madeSample is a sample with fixed figures, n seconds after the first.
func madeSample(n int) export.Sample {
	s := export.Sample{Program: "made up", PID: 7, Time: 1_000_000 + int64(n)*1000, Every: 1000, Words: "It has decided nothing.\n\nStill\x1b[2J nothing, and for a reason that takes more than one line of a terminal to say.\n"}
	grown := float64(n)
	s.Figures = export.Values{
		Plain: map[string]float64{
			"resident_bytes": 100 << 20, "resident_slab_bytes": 50 << 20, "resident_large_live_bytes": 30 << 20, "resident_free_bytes": 15 << 20, "resident_table_bytes": 5 << 20,
			"live_bytes": 70 << 20, "soft_limit_bytes": 1 << 30, "returned_bytes_total": grown * (3 << 20), "faulted_tiny_pages": grown * 100, "faulted_huge_pages": grown * 20,
			"commit_calls_total": grown * 2, "scavenger_hold_seconds": 2.5, "failed_allocations_total": 3,
		},
		Labelled: map[string]map[string]float64{
			"class_live_blocks": {"16": 1000, "1024": 3000, "32768": 0}, "class_free_blocks": {"16": 10, "1024": 500}, "class_magazine_blocks": {"32768": 1},
			"class_misses_total": {"16": grown * 30, "1024": grown * 12},
			"site_live_bytes":    {"small": 1000, "index": 40 << 20, "日本語の長い名前の場所です、とても長い": 1 << 20, "evil\x1b[31m": 5}, "site_live_one_in_blocks": {"small": 64},
			"phase_longest_cycles": {"purge": 3e6, "commit": 1e6}, "phase_cycles_total": {"purge": 6e6, "commit": 4e6}, "phase_seconds": {"purge": 0.002, "commit": 0.001},
		},
	}
	s.Region = export.RegionMap{
		CellBytes: hakmem.RegionPartBytes,
		Used:      []uint32{2048, 1024, 600, 100, 0, 0, 0}, Holes: []uint32{0, 0, 0, 0, 2000, 0, 0},
		Warm: []uint32{0, 1024, 1448, 1948, 48, 2048, 0}, Returned: []uint32{0, 0, 0, 0, 0, 0, 2048},
	}
	return s
}

// screen is what a top shows, without colours.
func screen(m tea.Model) []string {
	return strings.Split(ansi.Strip(m.View().Content), "\n")
}

// feed sends messages to a model.
func feed(m tea.Model, messages ...tea.Msg) (tea.Model, tea.Cmd) {
	var c tea.Cmd
	for _, x := range messages {
		m, c = m.Update(x)
	}
	return m, c
}

func key(name string) tea.Msg {
	for _, k := range []struct {
		name string
		code rune
	}{{"space", tea.KeySpace}, {"end", tea.KeyEnd}, {"home", tea.KeyHome}, {"esc", tea.KeyEscape}, {"down", tea.KeyDown}} {
		if k.name == name {
			return tea.KeyPressMsg{Code: k.code}
		}
	}
	if name == "ctrl+c" {
		return tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
	}
	return tea.KeyPressMsg{Code: rune(name[0]), Text: name}
}

// TestTopText: what a sample looks like at the usual width.
func TestTopText(t *testing.T) {
	text := strings.Join(topText([]export.Sample{madeSample(0), madeSample(1), madeSample(3)}, 80, plainPaint), "\n")
	for _, want := range []string{
		"█ slabs, up to 32 KiB     ", " 50.0 MiB\n", "▓ live large blocks ", " 30.0 MiB\n", "▪ tables, guarded blocks", " 5.00 MiB\n",
		strings.Repeat("█", 40) + strings.Repeat("▓", 24) + strings.Repeat("░", 12) + strings.Repeat("▪", 4) + "\n",
		"Limits: soft 1.00 GiB, hard none; 0 refusals, 3 failed allocations.\n",
		"kept for 2.5s on average", "3.00 MiB/s\n", "120/s\n", " 42/s\n", " 2/s\n",
		"The longest stall since the start: purge, 1ms.\n",
		"█▓▒░◌○·\n",
		"■ 1.00 KiB                 ████████████████████████████████████████     2.93 MiB\n", "■ 32.0 KiB ", "■ 16 B ",
		"■ index ", " 40.0 MiB\n", "■ small ", " 62.5 KiB\n", "evil?[31m",
		"It has decided nothing.\n", "Still?[2J nothing, and for a reason",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	order := []string{"index", "日本語", "small", "evil"}
	if at := func(s string) int { return strings.Index(text, "■ "+s) }; !slices.IsSortedFunc(order, func(x, y string) int { return at(x) - at(y) }) || at("evil") < 0 {
		t.Errorf("sites are not in the order %v in\n%s", order, text)
	}
	if strings.ContainsRune(text, '\x1b') {
		t.Errorf("a command for the terminal in %q", text)
	}
	first := strings.Join(topText([]export.Sample{madeSample(0)}, 80, plainPaint), "\n")
	if !strings.Contains(first, "■ returned ") || strings.Contains(first, "MiB/s") {
		t.Errorf("a rate after one sample:\n%s", first)
	}
}

// TestTopNotResident: a system that does not say what is resident, and a program without sites.
func TestTopNotResident(t *testing.T) {
	s := export.Sample{Time: 1, Figures: export.Values{Plain: map[string]float64{"counted_bytes": 8 << 20, "used_bytes": 6 << 20, "resident_bytes": 8 << 20}}}
	text := strings.Join(topText([]export.Sample{s}, 100, plainPaint), "\n")
	for _, want := range []string{"does not say what is resident", "█ slabs and large blocks", "6.00 MiB", "  counted", "The program names none", strings.Repeat("█", 75) + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

// TestTopFits: nothing is wider or higher than the terminal, however small that is, with colours and without.
func TestTopFits(t *testing.T) {
	var samples []tea.Msg
	for i := range keptSamples + 10 {
		samples = append(samples, sampleMsg(madeSample(i)))
	}
	for _, size := range [][2]int{{200, 60}, {80, 24}, {60, 20}, {40, 12}, {20, 8}, {10, 4}, {3, 3}, {1, 1}} {
		m, _ := feed(newTop("http://localhost:6060/debug/hakmem/"), tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		m, _ = feed(m, samples...)
		for _, k := range []string{"home", "down", "end"} {
			m, _ = feed(m, key(k))
			lines := screen(m)
			if len(lines) > max(size[1], 3) {
				t.Errorf("%d lines in a terminal of %v", len(lines), size)
			}
			for _, line := range lines {
				if n := ansi.StringWidth(line); n > size[0] || !utf8.ValidString(line) {
					t.Errorf("%d columns in a terminal of %v: %q", n, size, line)
				}
			}
		}
		for _, line := range topText([]export.Sample{madeSample(0), madeSample(1)}, size[0], plainPaint) {
			if n := ansi.StringWidth(line); n > size[0] {
				t.Errorf("%d columns of text, want at most %d: %q", n, size[0], line)
			}
		}
	}
}

// TestTopModel: what each message does.
func TestTopModel(t *testing.T) {
	at := func(n int) tea.Msg { return sampleMsg(madeSample(n)) }
	shows := func(m tea.Model, line int, want string) {
		t.Helper()
		lines := screen(m)
		if line < 0 {
			line += len(lines)
		}
		if !strings.Contains(lines[line], want) {
			t.Errorf("line %d is %q, want %q", line, lines[line], want)
		}
	}
	var m tea.Model = newTop("http://localhost:6060/debug/hakmem/")
	if m.Init() != nil {
		t.Error("it begins with a command")
	}
	shows(m, 0, "waiting for the first sample")
	shows(m, -1, "http://localhost:6060/debug/hakmem/")
	m, _ = feed(m, at(0), at(1))
	shows(m, 0, "made up (process 7), every 1 s")
	shows(m, 1, "Memory")
	m, _ = feed(m, errorMsg{errors.New("no\x1b answer")})
	shows(m, 0, "trying again: no? answer")
	m, _ = feed(m, at(1)) // the same one, from a new connection
	shows(m, 0, "made up")
	if n := len(m.(*top).samples); n != 2 {
		t.Errorf("%d samples, want 2", n)
	}
	m, _ = feed(m, key("space"), at(2))
	shows(m, 0, "paused")
	if n := len(m.(*top).samples); n != 2 {
		t.Errorf("%d samples while paused, want 2", n)
	}
	m, _ = feed(m, key("space"), at(3))
	if n := len(m.(*top).samples); n != 3 {
		t.Errorf("%d samples after the pause, want 3", n)
	}
	m, _ = feed(m, key("end"))
	shows(m, -2, "to say.")
	shows(m, -1, "100 %")
	m, _ = feed(m, at(4))
	shows(m, -1, "100 %") // it stays there
	m, _ = feed(m, key("home"))
	shows(m, 1, "Memory")
	m, _ = feed(m, key("down"))
	shows(m, 1, "What the operating system counts")
	other := madeSample(0)
	other.PID = 8
	m, _ = feed(m, sampleMsg(other))
	if n := len(m.(*top).samples); n != 1 {
		t.Errorf("%d samples of a new process, want 1", n)
	}
	for i := range 2 * keptSamples {
		m, _ = feed(m, at(i+10))
	}
	if n := len(m.(*top).samples); n != keptSamples {
		t.Errorf("%d samples are kept, want %d", n, keptSamples)
	}
	for _, name := range []string{"q", "esc", "ctrl+c"} {
		if _, c := feed(m, key(name)); c == nil {
			t.Errorf("%s does not end it", name)
		} else if _, ok := c().(tea.QuitMsg); !ok {
			t.Errorf("%s does not end it", name)
		}
	}
	if !m.View().AltScreen {
		t.Error("it overwrites what is in the terminal")
	}
}

// TestTopAddress: which page an argument names, and what is said of one that names none.
func TestTopAddress(t *testing.T) {
	for arg, want := range map[string]string{
		"http://localhost:6060":                   "http://localhost:6060/debug/hakmem/",
		"http://localhost:6060/":                  "http://localhost:6060/debug/hakmem/",
		"https://example.org/a/b":                 "https://example.org/a/b/",
		"http://[::1]:80/debug/hakmem/?x=1#cells": "http://[::1]:80/debug/hakmem/",
	} {
		if u, err := pageAddress([]string{arg}); err != nil || u.String() != want {
			t.Errorf("%q: %v, %v, want %s", arg, u, err, want)
		}
	}
	for _, args := range [][]string{nil, {"localhost:6060"}, {"6060"}, {"ftp://x/"}, {"http://"}, {"http:x"}, {"http://a b/"}, {""}, {"http://a", "http://b"}} {
		line := append([]string{"top"}, args...)
		status, out, errs := hakmemCommand(line...)
		if status != exitUsage || out != "" || !strings.Contains(errs, "http://localhost:6060/debug/hakmem/") && len(args) < 2 {
			t.Errorf("%q: status %d, %q", args, status, errs)
		}
	}
	if status, _, errs := hakmemCommand("top", "http://localhost:1"); status != exitUsage || !strings.Contains(errs, "--once") {
		t.Errorf("without a terminal: status %d, %q", status, errs)
	}
}

// TestTopAnswers: what is said when something else answers, or nothing.
func TestTopAnswers(t *testing.T) {
	answer := func(code int, kind, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			io.WriteString(w, text)
		}
	}
	refuses := hakmemhttp.NewHandler(hakmemhttp.Options{})
	for _, x := range []struct {
		name  string
		serve http.HandlerFunc
		says  string
	}{
		{"no such page", http.NotFound, "is the path right"},
		{"another page", answer(200, "text/html", "<h1>"), "is the path right"},
		{"a refusal", func(w http.ResponseWriter, r *http.Request) { r.Host = "evil.example"; refuses.ServeHTTP(w, r) }, "hakmemhttp: the host"},
		{"no JSON", answer(200, "text/event-stream", "data: {\n\n"), "JSON"},
		{"other JSON", answer(200, "text/event-stream", "data: {}\n\n"), "no sample"},
		{"parts that do not fit", answer(200, "text/event-stream", `data: {"time_ms":1,"figures":{"plain":{}},"region":{"used":[1]}}`+"\n\n"), "no sample"},
		{"an early end", answer(200, "text/event-stream", ""), "EOF"},
	} {
		server := httptest.NewServer(x.serve)
		status, out, errs := hakmemCommand("top", "--once", server.URL)
		server.Close()
		if status != exitFailed || out != "" || !strings.Contains(errs, x.says) {
			t.Errorf("%s: status %d, %q, want %q", x.name, status, errs, x.says)
		}
		if status, _, errs := hakmemCommand("top", "--once", server.URL); status != exitFailed || errs == "" {
			t.Errorf("nobody answers: status %d, %q", status, errs)
		}
	}
}

// served returns the address of a page of this process.
func served(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(pagePath, hakmemhttp.Handler())
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// TestTopOnce: the page of a program, printed.
func TestTopOnce(t *testing.T) {
	t.Setenv("COLUMNS", "50")
	p := hakmem.MallocAt(hakmem.RegisterSite("top once"), 3<<20)
	defer hakmem.Free(p)
	status, out, errs := hakmemCommand("top", "--once", served(t))
	if status != 0 || !strings.Contains(out, "top once") || !strings.Contains(out, "/s\n") || !strings.Contains(out, "live blocks") {
		t.Errorf("status %d, %s\n%s", status, errs, out)
	}
	for line := range strings.Lines(out) {
		if n := ansi.StringWidth(strings.TrimSuffix(line, "\n")); n > 50 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

// terminal is a place for what a program shows. It ends the program when the text is there.
type terminal struct {
	until string
	all   bytes.Buffer
	keys  *io.PipeWriter
	done  bool
}

func (w *terminal) Write(p []byte) (int, error) {
	w.all.Write(p)
	if !w.done && strings.Contains(ansi.Strip(w.all.String()), w.until) {
		w.done = true
		go io.WriteString(w.keys, "q")
	}
	return len(p), nil
}

// TestTopWatches: the program as a user runs it, from the first sample to the key that ends it.
func TestTopWatches(t *testing.T) {
	page, err := url.Parse(served(t) + pagePath)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	keys, press := io.Pipe()
	defer press.Close()
	shown := &terminal{until: "live blocks", keys: press}
	err = watch(ctx, page, tea.WithInput(keys), tea.WithOutput(shown), tea.WithWindowSize(90, 40), tea.WithoutSignals(), tea.WithEnvironment([]string{"TERM=xterm-256color"}))
	if err != nil || !shown.done {
		t.Errorf("%v after %q", err, shown.all.String())
	}
}

// TestTopFollows: a stream that ended is asked for again, and what went wrong is shown until it is there.
func TestTopFollows(t *testing.T) {
	page := hakmemhttp.Handler()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 2 {
			http.Error(w, "hakmemhttp: not now", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		page.ServeHTTP(endAfterOne{w, cancel}, r.WithContext(ctx))
	}))
	defer server.Close()
	u, err := url.Parse(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := askPage(ctx, u, "stream", "text/event-stream")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	follow(ctx, u, r, time.Nanosecond, func(m tea.Msg) {
		switch m := m.(type) {
		case sampleMsg:
			got = append(got, "sample")
		case errorMsg:
			got = append(got, m.Error())
		}
		if len(got) == 4 {
			cancel()
		}
	})
	want := []string{"sample", "the program has ended the stream", fmt.Sprintf("%sstream answers 503 Service Unavailable: hakmemhttp: not now", u), "sample"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// endAfterOne ends a stream after its first event.
type endAfterOne struct {
	http.ResponseWriter
	end context.CancelFunc
}

func (w endAfterOne) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w endAfterOne) Write(p []byte) (int, error) {
	defer w.end()
	return w.ResponseWriter.Write(p)
}
