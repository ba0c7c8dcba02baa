package policy

import (
	"strings"
	"testing"
)

// former has the names that settings have in the C allocator.
var former = map[string]string{
	"HAKMEM_FRONT_FASTLANE":      "HAKMEM_FAST_SECTION",
	"HAKMEM_FRONT_V2_CAP":        "HAKMEM_MAG_BLOCKS",
	"HAKMEM_CAP_MID":             "HAKMEM_MAG_MID_BLOCKS",
	"HAKMEM_MAG_WARM_BYTES":      "HAKMEM_MAG_LARGE_BYTES",
	"HAKMEM_WARM_SLOTS":          "HAKMEM_SHARED_SLOTS",
	"HAKMEM_WHALE_BYTES":         "HAKMEM_HUGE_CACHE_BYTES",
	"HAKMEM_SS_EMPTY_REUSE":      "HAKMEM_EMPTY_REUSE",
	"HAKMEM_SS_EMPTY_FIRST":      "HAKMEM_EMPTY_FIRST",
	"HAKMEM_SS_EMPTY_SCAN_LIMIT": "HAKMEM_EMPTY_SCAN_LIMIT",
	"HAKMEM_SS_MIN_KEEP":         "HAKMEM_EMPTY_MIN_KEEP",
	"HAKMEM_SS_COMMIT_MIN":       "HAKMEM_COMMIT_MIN",
	"HAKMEM_SS_COMMIT_MAX":       "HAKMEM_COMMIT_MAX",
}

// TestAliases: each former name is an alias of its setting, and no other name is an alias.
func TestAliases(t *testing.T) {
	aliases := 0
	for i := range All() {
		g := &All()[i]
		if g.Alias == "" {
			continue
		}
		aliases++
		if former[g.Alias] != g.Name {
			t.Errorf("%s is an alias of %s, want one of %q", g.Alias, g.Name, former[g.Alias])
		}
		if Find(g.Alias) != g || Find(g.Name) != g {
			t.Errorf("Find(%q) and Find(%q) = %v and %v, want %s", g.Alias, g.Name, Find(g.Alias), Find(g.Name), g.Name)
		}
	}
	if aliases != len(former) {
		t.Errorf("%d aliases, want %d", aliases, len(former))
	}
	if g := Find(""); g != nil {
		t.Errorf(`Find("") = %s`, g.Name)
	}
}

// TestAliasConflict: the error names both variables and both values.
func TestAliasConflict(t *testing.T) {
	_, errs := Build(lookup(map[string]string{"HAKMEM_WHALE_BYTES": "0", "HAKMEM_HUGE_CACHE_BYTES": "4096"}))
	if len(errs) != 1 {
		t.Fatalf("errors %v, want one", errs)
	}
	text := errs[0].Error()
	for _, want := range []string{"HAKMEM_WHALE_BYTES", "HAKMEM_HUGE_CACHE_BYTES", `"0"`, `"4096"`, "unset"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %q", want, text)
		}
	}
}

// TestLoadOverAlias: a value that the program sets under the setting's own name overrides the alias
// in the environment.
func TestLoadOverAlias(t *testing.T) {
	t.Setenv("HAKMEM_CAP_MID", "7")
	for _, c := range []struct {
		set  map[string]string
		want int
	}{{nil, 7}, {map[string]string{"HAKMEM_MAG_MID_BLOCKS": "9"}, 9}} {
		if s, errs := Load(c.set); s.MagMidBlocks != c.want || len(errs) > 0 {
			t.Errorf("with %v: %d blocks, want %d (%v)", c.set, s.MagMidBlocks, c.want, errs)
		}
	}
}
