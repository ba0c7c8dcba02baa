package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

func TestMarkdown(t *testing.T) {
	later := int64(3 << 20)
	sources := []Source{{Name: "x", Collection: result.Collection{
		Command: []string{"hakmem", "compare", "all"}, Started: "2026-01-02T03:04:05Z", Seconds: 120,
		Reports: []result.Report{{Workload: "w", Results: []result.Result{
			{Allocator: "hakmem", Version: "v1", NsPerOp: 10, OverIdle: 2 << 20, LaterRSS: &later},
			{Allocator: "fast", Version: "v2", NsPerOp: 9, OverIdle: 3 << 20},
			{Allocator: "slow", Version: "v3", NsPerOp: 25},
		}}, {Workload: "unknown", Results: []result.Result{{Allocator: "hakmem"}}}},
	}}}
	var b bytes.Buffer
	if err := Markdown(&b, sources); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"`hakmem compare all`, 2026-01-02T03:04:05Z, 2 minutes",
		"Measured: hakmem (v1), fast (v2), slow (v3).",
		"| workload | hakmem | fast | slow |\n|---|---:|---:|---:|\n| w | 10 ns | **0.90** | 2.50 |\n\n", // no row of unknown
		"| w | 2.0 | 1.50 | n/a |\n",
		"| w | 3.0 | n/a | n/a |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	text := "before\n" + MarkdownBegin + "\nold\n" + MarkdownEnd + "\nafter\n"
	for range 2 { // the second time replaces what the first wrote
		out, err := Into([]byte(text), sources)
		if err != nil {
			t.Fatal(err)
		}
		text = string(out)
	}
	if !strings.HasPrefix(text, "before\n"+MarkdownBegin+"\n\n`hakmem") || !strings.HasSuffix(text, MarkdownEnd+"\nafter\n") || strings.Contains(text, "old") || strings.Count(text, "| w | 10 ns") != 1 {
		t.Errorf("the document is\n%s", text)
	}
}

// TestMarkdownWithout: where package hakmem was not measured, the figures are over its Heap's, or
// over those of the allocator that was measured first. A figure that is not known is not written.
func TestMarkdownWithout(t *testing.T) {
	for first, want := range map[string]string{"hakmem-heap": "| w | 2.00 | 10 ns |\n", "other": "| w | 20 ns | **0.50** |\n"} {
		var b bytes.Buffer
		if err := Markdown(&b, []Source{{Collection: result.Collection{Reports: []result.Report{{Workload: "w",
			Noise:   &result.Noise{Allocator: first, Ratio: 1.5},
			Results: []result.Result{{Allocator: "fast", NsPerOp: 20}, {Allocator: first, NsPerOp: 10}},
		}}}}}); err != nil {
			t.Fatal(err)
		}
		if text := b.String(); !strings.Contains(text, want) || !strings.Contains(text, first+" over itself, in time, before each comparison: w 1.50.") || strings.Contains(text, "minutes") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestIntoRefuses(t *testing.T) {
	const begin, end = MarkdownBegin + "\n", MarkdownEnd + "\n"
	for _, c := range []struct{ text, want string }{
		{"no mark", `-->" 0 times`},
		{begin, `end of the results -->" 0 times`},
		{end, "0 times"},
		{end + begin, "stands before"},
		{"It begins with " + MarkdownBegin + ".\n\n" + begin + end, "2 times"},
		{begin + end + begin + end, "2 times"},
		{begin + end + "That was " + MarkdownEnd + "\n", "2 times"},
		{"a " + begin + end, "on a line of its own"},
		{" " + begin + end, "on a line of its own"}, // code, if there are four spaces
		{MarkdownBegin + " b\n" + end, "on a line of its own"},
		{begin + "a " + end, "on a line of its own"},
		{begin + MarkdownEnd + " b", "on a line of its own"},
	} {
		if _, err := Into([]byte(c.text), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.text, err, c.want)
		}
	}
	for _, text := range []string{begin + MarkdownEnd, "a\r\n" + MarkdownBegin + " \r\n" + MarkdownEnd + "\r\nb\r\n"} {
		if out, err := Into([]byte(text), nil); err != nil || !strings.HasSuffix(string(out), text[strings.Index(text, MarkdownEnd):]) {
			t.Errorf("%q: %q, %v", text, out, err)
		}
	}
}
