package report

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// measureScript writes into the page, as JSON, what the browser made of the page. It belongs to the
// test: the page itself has no script.
const measureScript = `<script>
const found = {Width: innerWidth, Scroll: document.documentElement.scrollWidth,
	Paper: getComputedStyle(document.body).backgroundColor,
	Strangers: document.querySelectorAll("img, iframe, object, i, b, u").length, Scripts: document.scripts.length, Charts: []};
for (const svg of document.querySelectorAll("svg.chart")) {
	const box = e => { const b = e.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; };
	const screen = e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
	const all = q => [...svg.querySelectorAll(q)];
	found.Charts.push({Label: svg.getAttribute("aria-label"), Size: [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height], Screen: screen(svg),
		Marks: all(".mark").map(e => ({Title: e.querySelector("title").textContent, Box: box(e), Screen: screen(e),
			Colours: [...e.querySelectorAll("path")].map(p => getComputedStyle(p)).map(s => s.fill + " " + s.stroke)})),
		Texts: all("text").map(e => ({Title: e.textContent, Box: box(e), Screen: screen(e)}))});
}
const out = document.createElement("pre");
out.id = "found";
out.textContent = JSON.stringify(found);
document.body.append(out);
</script></body>`

// What measureScript finds. A box is left, top, right, bottom; a number that is not finite is nil.
type found struct {
	Width, Scroll      float64
	Paper              string
	Strangers, Scripts int
	Charts             []struct {
		Label        string
		Size         [2]float64
		Screen       [4]*float64
		Marks, Texts []drawn
	}
}

type drawn struct {
	Title       string
	Box, Screen [4]*float64
	Colours     []string
}

// flaw says what is wrong with the place where something is drawn; "" if nothing is. The box must
// have an extent, and must lie within a chart of that size, give or take margin pixels.
func (d drawn) flaw(size [2]float64, margin float64) string {
	for _, box := range [][4]*float64{d.Box, d.Screen} {
		for _, v := range box {
			if v == nil {
				return "a coordinate is not finite"
			}
		}
		if *box[2]-*box[0] <= 0 && *box[3]-*box[1] <= 0 {
			return "it has no extent"
		}
	}
	b := d.Box
	if *b[0] < -margin || *b[1] < -margin || *b[2] > size[0]+margin || *b[3] > size[1]+margin {
		return fmt.Sprintf("it reaches from %.1f, %.1f to %.1f, %.1f", *b[0], *b[1], *b[2], *b[3])
	}
	return ""
}

func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no chromium, chromium-browser or google-chrome here: the page was not looked at in a browser; bench/report/setup.sh installs chromium")
	return ""
}

var foundTag = regexp.MustCompile(`(?s)<pre id="found">(.*?)</pre>`)

// look opens a page in the browser and returns what is found there.
func look(t *testing.T, browser, page string, width int, more ...string) found {
	t.Helper()
	// Not t.TempDir: it fails the test if a process of the browser that is about to end still
	// writes there.
	dir, err := os.MkdirTemp("", "report-browser-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, []byte(strings.Replace(page, "</body>", measureScript, 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
		"--user-data-dir=" + filepath.Join(dir, "profile"), fmt.Sprintf("--window-size=%d,1000", width), "--dump-dom"}, more...)
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // which chromium cannot set up for root
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, browser, append(args, (&url.URL{Scheme: "file", Path: file}).String())...)
	cmd.Stderr, cmd.WaitDelay = &stderr, 5*time.Second
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	m := foundTag.FindSubmatch(dom)
	if m == nil {
		t.Fatalf("%s: the page does not hold what the script should have written:\n%.1000s", cmd, dom)
	}
	var f found
	if err := json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &f); err != nil {
		t.Fatalf("%v in %.1000s", err, m[1])
	}
	return f
}

func TestInBrowser(t *testing.T) {
	path := browser(t)
	page := render(t, load(t, "collection.json", "single.json", "old.json", "edges.json"))
	const wantCharts = 2 + 4*4 + 4 + 2 + 7 // see TestMarks; the overview is one for all
	papers := map[string]bool{}
	for _, test := range []struct {
		name  string
		width int
		more  []string
	}{
		{"light 1200", 1200, nil},
		{"light 500", 500, nil}, // the narrowest window there is
		{"dark 1200", 1200, []string{"--blink-settings=preferredColorScheme=0"}},
	} {
		f := look(t, path, page, test.width, test.more...)
		if f.Width != float64(test.width) || f.Scroll > f.Width {
			t.Errorf("%s: the page is %v wide in a window of %v", test.name, f.Scroll, f.Width)
		}
		if f.Strangers != 0 || f.Scripts != 1 {
			t.Errorf("%s: %d elements that came from the results' texts, %d scripts; want 0, and 1, the test's", test.name, f.Strangers, f.Scripts)
		}
		if len(f.Charts) != wantCharts {
			t.Errorf("%s: %d charts, want %d", test.name, len(f.Charts), wantCharts)
		}
		papers[f.Paper] = true
		for _, c := range f.Charts {
			chart := drawn{Box: c.Screen, Screen: c.Screen}
			if flaw := chart.flaw([2]float64{f.Width, 1e9}, 0); flaw != "" {
				t.Errorf("%s: %s: %s", test.name, c.Label, flaw)
			}
			if len(c.Marks) == 0 || len(c.Texts) == 0 {
				t.Errorf("%s: %s: %d marks and %d texts", test.name, c.Label, len(c.Marks), len(c.Texts))
			}
			for _, m := range c.Marks {
				const radius = 5 // of a marker on the edge
				if flaw := m.flaw(c.Size, radius); flaw != "" {
					t.Errorf("%s: %s: mark %q: %s", test.name, c.Label, m.Title, flaw)
				}
				for _, colour := range m.Colours {
					if colour == "none none" {
						t.Errorf("%s: %s: mark %q has a part without colour", test.name, c.Label, m.Title)
					}
				}
				if m.Title == "" {
					t.Errorf("%s: %s: a mark without a title", test.name, c.Label)
				}
			}
			for _, text := range c.Texts {
				if flaw := text.flaw(c.Size, 1); flaw != "" {
					t.Errorf("%s: %s: text %q: %s", test.name, c.Label, text.Title, flaw)
				}
			}
		}
	}
	if len(papers) != 2 {
		t.Errorf("the page's colours are %v in light and in dark; want two", papers)
	}
}
