package hakmem

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/asan"
)

// TestStatsPageSums: each line with '=' is the sum of the lines above it.
func TestStatsPageSums(t *testing.T) {
	var s Stats
	s.Live, s.InMagazines, s.InQuarantine = 1000, 200, 30
	s.Large = LargeStats{
		LargeBlockStats: LargeBlockStats{CachedBytes: 500},
		Shared:          CacheStats{Bytes: 40}, SiteCache: CacheStats{Bytes: 50}, HugeCache: CacheStats{Bytes: 60},
	}
	s.Classes = []ClassStats{{Size: 16, Free: 3}, {Size: 32, Free: 2}}
	s.Scavenger.Used, s.Scavenger.Dirty = 4000, 700
	s.Committed, s.Reserved, s.Counted = 9000, 20000, 5100
	known := s
	known.ResidentBy = ResidentStats{Slabs: 800, LargeLive: 900, LargeCached: 300, Free: 600, Guarded: 8, Tables: 70}
	known.Resident = 800 + 900 + 300 + 600 + 8 + 70
	for _, x := range []struct {
		name string
		sum  []term
		want map[string]int64
	}{
		{"resident", known.residentSum(), map[string]int64{
			"live blocks": 1000, "free blocks in magazines": 200 + 500 - 30 - 40 - 50 - 60, "freed blocks in the quarantine": 30,
			"free blocks in slabs": 3*16 + 2*32, "unused ends of slabs and of large blocks": 4000 - 1000 - 200 - 500 - 112, "pages in use": 4000,
			"of these without memory: holes, and never touched": 4000 - 2000, "free pages with memory": 600, "guarded blocks": 8,
			"hakmem's own tables": 70, "resident": 2678,
		}},
		{"not known", s.residentSum(), map[string]int64{"free pages with memory": 700, "tables and guarded blocks, less what has no memory": 400, "counted: all that may be resident": 5100}},
		{"reserved", known.reservedSum(), map[string]int64{"resident in the pages for blocks": 2600, "committed for blocks": 9000, "not committed": 11000, "reserved for blocks": 20000}},
	} {
		sum, is := int64(0), map[string]int64{}
		for _, l := range x.sum {
			switch l.sign {
			case '=':
				if l.bytes != sum {
					t.Errorf("%s: %q is %d, the lines above are %d", x.name, l.what, l.bytes, sum)
				}
			case '-':
				sum -= l.bytes
			default:
				sum += l.bytes
			}
			is[l.what] = l.bytes
		}
		for what, n := range x.want {
			if is[what] != n {
				t.Errorf("%s: %q is %d, want %d", x.name, what, is[what], n)
			}
		}
	}
}

// TestStatsPageTables: classes without slabs are left out, sites come by what they have in all, and what was survived
// is said.
func TestStatsPageTables(t *testing.T) {
	s := Stats{
		Classes: []ClassStats{{Size: 16, Live: 3, Slabs: 1}, {Size: 48}},
		Sites:   []SiteStats{{1, "small", 100, 1, 1}, {2, "sampled", 90, 2, 64}, {3, "large", 200, 3, 1}},
		Errors:  []error{errors.New("a refused commit")},
	}
	page := string(s.page())
	at := -1
	for _, want := range []string{"\n      16 ", "\"sampled\"", "\"large\"", "\"small\"", "  a refused commit\n"} {
		next := strings.Index(page, want)
		if next <= at {
			t.Errorf("%q is at %d, what comes before it at %d", want, next, at)
		}
		at = next
	}
	if strings.Contains(page, "\n      48 ") {
		t.Error("a class without slabs is there")
	}
	if t.Failed() {
		t.Log(page)
	}
	s.Sites, s.Errors = nil, nil
	if page := string(s.page()); strings.Contains(page, "\nSites") || strings.Contains(page, "\nSurvived") {
		t.Errorf("a heading with nothing below it:\n%s", page)
	}
}

// failing is a writer that fails.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriteStats(t *testing.T) {
	p := Malloc(100)
	defer Free(p)
	var b bytes.Buffer
	if err := WriteStats(&b); err != nil {
		t.Fatal(err)
	}
	class := "\n     112 "
	if asan.On { // a block has bytes around it
		class = "\n     128 "
	}
	for _, want := range []string{"Memory, in bytes\n", "  live blocks\n", "\nSize classes\n", class} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	broken := fmt.Errorf("a broken pipe")
	if err := WriteStats(failing{broken}); err != broken {
		t.Errorf("the writer's error is %v, WriteStats returned %v", broken, err)
	}
}
