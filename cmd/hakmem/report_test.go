package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/report"
	"github.com/hakmem/hakmem/bench/result"
)

const someReport = `{"workload": "random_mixed", "results": [{"allocator": "hakmem", "ns_per_op": 9}, {"allocator": "glibc", "ns_per_op": 18}]}`

// inReportDir moves the test into a directory of its own that contains a result.
func inReportDir(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("r.json", []byte(someReport), 0o666); err != nil {
		t.Fatal(err)
	}
}

// runsOf returns a run for each of the times.
func runsOf(times ...float64) (runs []result.Run) {
	for _, t := range times {
		runs = append(runs, result.Run{NsPerOp: t})
	}
	return runs
}

func TestReport(t *testing.T) {
	for _, c := range []struct{ line, file string }{
		{"report r.json", "report.html"},
		{"report r.json -o other.html", "other.html"},
		{"report --output=other.html r.json r.json", "other.html"},
		{"report -o - r.json", ""},
		{"report r.json -o -", ""},
	} {
		inReportDir(t)
		status, page, errs := hakmemCommand(strings.Fields(c.line)...)
		if c.file != "" {
			if page != "" {
				t.Errorf("%s: prints %q", c.line, page)
			}
			b, err := os.ReadFile(c.file)
			if err != nil {
				t.Errorf("%s: %v", c.line, err)
			}
			page = string(b)
		}
		if status != 0 || errs != "" || !strings.HasPrefix(page, "<!DOCTYPE html>") || !strings.Contains(page, "2.00×") {
			t.Errorf("%s: status %d, %q; page %.100q", c.line, status, errs, page)
		}
		left, err := filepath.Glob("*.tmp")
		if err != nil || left != nil {
			t.Errorf("%s: leaves %q, %v", c.line, left, err)
		}
	}
}

// TestReportChance checks that the page marks what may be chance, although the output of bench has
// no p-values.
func TestReportChance(t *testing.T) {
	of := func(allocator string, times ...float64) result.Result {
		r := result.Result{Allocator: allocator, Runs: runsOf(times...)}
		r.NsPerOp = result.Median(times)
		return r
	}
	text, err := json.Marshal(result.Report{Workload: "w", Results: []result.Result{
		of("hakmem", 10, 11, 12, 13, 14), of("near", 10.5, 11.5, 12.5, 13.5, 14.5), of("far", 20, 21, 22, 23, 24),
	}})
	t.Chdir(t.TempDir())
	if err := errors.Join(err, os.WriteFile("r.json", text, 0o666)); err != nil {
		t.Fatal(err)
	}
	status, page, errs := hakmemCommand("report", "r.json", "-o", "-")
	// In two charts and in the note.
	if status != 0 || strings.Count(page, "p = 0.69: may be chance") != 2 || strings.Count(page, "may be chance") != 3 {
		t.Errorf("status %d, %s\n%s", status, errs, page)
	}
}

func TestReportRefuses(t *testing.T) {
	for _, c := range []struct {
		line   string
		status int
		want   []string
	}{
		{"report", exitUsage, []string{"no result file", "--json"}},
		{"report r.json -o r.json", exitUsage, []string{`"r.json"`, "another file"}},
		{"report r.json -o .", exitUsage, []string{`"."`, "not a regular file"}},
		{"report r.json --output=", exitUsage, []string{`""`, "standard output"}},
		{"report missing.json", exitFailed, []string{"missing.json", "--json"}},
		{"report r.json kept.html", exitFailed, []string{"kept.html", "not JSON", "--json"}},
		{"report r.json -o no/such.html", exitFailed, []string{"no/such.html"}},
		{"report r.json --into=", exitUsage, []string{`""`, "Markdown document"}},
		{"report r.json --into .", exitUsage, []string{`"."`, "Markdown document"}},
		{"report r.json --into no/such.md", exitFailed, []string{"--into", "no/such.md"}},
		{"report r.json --into kept.html", exitFailed, []string{"--into kept.html", "line of its own"}},
		{"report r.json --into kept.html -o x.html", exitUsage, []string{`"kept.html"`, `"x.html"`, "one of them"}},
	} {
		inReportDir(t)
		if err := os.WriteFile("kept.html", []byte("kept"), 0o666); err != nil {
			t.Fatal(err)
		}
		status, out, errs := hakmemCommand(strings.Fields(c.line)...)
		if status != c.status || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: status %d, want %d; %q; prints %q", c.line, status, c.status, errs, out)
		}
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: %q does not say %q", c.line, errs, want)
			}
		}
		if b, err := os.ReadFile("r.json"); err != nil || string(b) != someReport {
			t.Errorf("%s: r.json holds %q, %v", c.line, b, err)
		}
		if b, err := os.ReadFile("kept.html"); err != nil || string(b) != "kept" {
			t.Errorf("%s: kept.html holds %q, %v", c.line, b, err)
		}
		if _, err := os.Stat("report.html"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: report.html: %v", c.line, err)
		}
	}
}

// TestReportInto checks that the document stays where and as it was, except for the tables.
func TestReportInto(t *testing.T) {
	inReportDir(t)
	text := "before\n" + report.MarkdownBegin + "\n" + report.MarkdownEnd + "\nafter\n"
	err := errors.Join(os.Mkdir("docs", 0o777), os.WriteFile("docs/real.md", []byte(text), 0o600), os.Chmod("docs/real.md", 0o640))
	if err != nil {
		t.Fatal(err)
	}
	symlink(t, filepath.Join("docs", "real.md"), "link.md")
	if status, out, errs := hakmemCommand("report", "r.json", "--into", "link.md"); status != 0 || out != "" || errs != "" {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	b, err := os.ReadFile("docs/real.md")
	if err != nil || !strings.HasPrefix(string(b), "before\n") || !strings.Contains(string(b), "| random_mixed | 9 ns | 2.00 |") {
		t.Errorf("%v; the document is\n%s", err, b)
	}
	if info, err := os.Lstat("link.md"); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	if info, err := os.Stat("docs/real.md"); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v, %v; want 0640", info.Mode(), err)
	}
}

// TestWriteFile checks that a file that cannot be written in full leaves the previous one
// unchanged.
func TestWriteFile(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(text string, err error) func(io.Writer) error {
		return func(w io.Writer) error {
			fmt.Fprint(w, text)
			return err
		}
	}
	full := errors.New("disk full")
	for _, c := range []struct {
		text string
		err  error
		want string
	}{
		{"one", nil, "one"},
		{"half of tw", full, "one"},
		{"two", nil, "two"},
	} {
		if err := writeFile("f", write(c.text, c.err)); !errors.Is(err, c.err) {
			t.Errorf("%q: %v, want %v", c.text, err, c.err)
		}
		got, err := os.ReadFile("f")
		if err != nil || string(got) != c.want {
			t.Errorf("the file holds %q, %v; want %q", got, err, c.want)
		}
		if files, err := os.ReadDir("."); err != nil || len(files) != 1 {
			t.Errorf("%d files, %v; want one", len(files), err)
		}
	}
}
