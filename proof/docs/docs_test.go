package docs

import (
	"slices"
	"strings"
	"testing"
)

// language is what code spans may name of Go itself.
var language = strings.Fields("make new nil panic append copy go runtime sync os unsafe atomic")

// exceptions are names that the tree does not have, and why a document names them all the same.
var exceptions = map[string]string{
	"HAKMEM_X":        "stands for any setting",
	"X.go":            "stands for any file",
	"X_test.go":       "stands for the tests of that file",
	"./cgomalloc":     "is relative to the directory bench, which the text names",
	"--all":           "is a flag of .ci/go-versions, which the text names",
	"ReadMemStats":    "is runtime.ReadMemStats",
	"GOGC":            "is a variable of Go's runtime",
	"GOMEMLIMIT":      "is a variable of Go's runtime",
	"runtime/metrics": "is a package of Go's library",
	"retract":         "is a directive of go.mod",
	"LimitAS":         "is a setting of systemd",
	"xthread_free":    "is a field of mimalloc's",
	"local_free":      "is a field of mimalloc's",
	"bench/security":  "is a directory of mimalloc-bench",
}

// pages are the documents that are checked.
func pages(tr *tree) []*page {
	var list []*page
	for _, name := range keys(tr.pages) {
		if name == "README.md" || strings.HasPrefix(name, "docs/") || name == "examples/cache/README.md" {
			list = append(list, tr.pages[name])
		}
	}
	return list
}

// TestDocuments: what the documents name exists.
func TestDocuments(t *testing.T) {
	tr := getTree(t)
	seen, excused := map[string]int{}, map[string]bool{}
	for _, p := range pages(tr) {
		c := check(tr, p)
		for _, problem := range c.problems {
			t.Errorf("%s is not there: correct the document, or give a reason in exceptions", problem)
		}
		for kind, n := range c.seen {
			seen[kind] += n
		}
		for name := range c.excused {
			excused[name] = true
		}
	}
	for _, kind := range kinds {
		t.Logf("%s: %d references", kind, seen[kind])
		if seen[kind] == 0 {
			t.Errorf("no document names a %s: it is no longer recognised", kind)
		}
	}
	for name := range exceptions {
		if !excused[name] {
			t.Errorf("exceptions has %q, which no document needs: take it out", name)
		}
	}
	_ = slices.Contains[[]string]
}
