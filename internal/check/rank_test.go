package check

import (
	"os"
	"strings"
	"testing"
)

// TestOrderIsDocumented: every lock of the table is in the document's section on the order of
// locks, under the same name, and has a word on what it protects. The ranks are a total order that
// agrees with the partial one.
func TestOrderIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/concurrency.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## 2. Order of locks\n")
	section, _, end := strings.Cut(section, "\n## 3.")
	if !ok || !end {
		t.Fatal("docs/concurrency.md has no section 2, Order of locks, before a section 3")
	}
	section = strings.Join(strings.Fields(section), " ") // a name may be broken across lines
	seen := map[string]bool{}
	for r := range numRanks {
		o := order[r]
		if seen[o.name] || o.protects == "" {
			t.Errorf("rank %d, %q: want a name of its own and what it protects", r, o.name)
		}
		if seen[o.name] = true; !strings.Contains(section, o.name) {
			t.Errorf("docs/concurrency.md, section 2, does not name %s", r)
		}
		for _, u := range append(append([]Rank(nil), o.under...), o.exclusive...) {
			if u >= r {
				t.Errorf("%s is taken under %s, whose rank is not lower", r, u)
			}
		}
	}
}
