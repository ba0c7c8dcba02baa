package policy

import (
	"errors"
	"strings"
	"testing"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestBuild(t *testing.T) {
	withContainer(t, 100<<20, true)
	for _, tt := range []struct {
		name string
		env  map[string]string
		get  func(*Settings) int
		want int
		bad  string // setting that must be reported
	}{
		{"default", nil, func(s *Settings) int { return s.Refill }, 64, ""},
		{"set", map[string]string{"HAKMEM_REFILL": "7"}, func(s *Settings) int { return s.Refill }, 7, ""},
		{"empty is unset", map[string]string{"HAKMEM_REFILL": ""}, func(s *Settings) int { return s.Refill }, 64, ""},
		{"not a number", map[string]string{"HAKMEM_REFILL": "many"}, func(s *Settings) int { return s.Refill }, 64, "HAKMEM_REFILL"},
		{"too small", map[string]string{"HAKMEM_REFILL": "0"}, func(s *Settings) int { return s.Refill }, 64, "HAKMEM_REFILL"},
		{"too large", map[string]string{"HAKMEM_REFILL": "128"}, func(s *Settings) int { return s.Refill }, 64, "HAKMEM_REFILL"},
		{"a word for a number", map[string]string{"HAKMEM_REFILL": "on"}, func(s *Settings) int { return s.Refill }, 64, "HAKMEM_REFILL"},
		{"off", map[string]string{"HAKMEM_EMPTY_REUSE": "off"}, emptyReuse, 0, ""},
		{"OFF", map[string]string{"HAKMEM_EMPTY_REUSE": "OFF"}, emptyReuse, 0, ""},
		{"0", map[string]string{"HAKMEM_EMPTY_REUSE": "0"}, emptyReuse, 0, ""},
		{"yes", map[string]string{"HAKMEM_HARDEN": "Yes"}, harden, 1, ""},
		{"true", map[string]string{"HAKMEM_HARDEN": "true"}, harden, 1, ""},
		{"no", map[string]string{"HAKMEM_EMPTY_REUSE": "no"}, emptyReuse, 0, ""},
		{"true for a number", map[string]string{"HAKMEM_REFILL": "true"}, func(s *Settings) int { return s.Refill }, 64, "HAKMEM_REFILL"},
		{"2 for a switch", map[string]string{"HAKMEM_EMPTY_REUSE": "2"}, emptyReuse, 1, "HAKMEM_EMPTY_REUSE"},
		{"mode", map[string]string{"HAKMEM_MODE": "minimal"}, func(s *Settings) int { return s.Refill }, 16, ""},
		{"mode, and a setting over it", map[string]string{"HAKMEM_MODE": "minimal", "HAKMEM_REFILL": "20"}, func(s *Settings) int { return s.Refill }, 20, ""},
		{"mode, and a bad setting", map[string]string{"HAKMEM_MODE": "minimal", "HAKMEM_REFILL": "x"}, func(s *Settings) int { return s.Refill }, 16, "HAKMEM_REFILL"},
		{"unknown mode", map[string]string{"HAKMEM_MODE": "Turbo"}, func(s *Settings) int { return s.Refill }, 64, "HAKMEM_MODE"},
		{"maximum below minimum", map[string]string{"HAKMEM_COMMIT_MIN": "67108864", "HAKMEM_COMMIT_MAX": "2097152"},
			func(s *Settings) int { return s.CommitMax }, 64 << 20, "HAKMEM_COMMIT_MAX"},
		{"minimum above the default maximum", map[string]string{"HAKMEM_COMMIT_MIN": "134217728"},
			func(s *Settings) int { return s.CommitMax }, 128 << 20, ""},
		{"the container's limit", map[string]string{"HAKMEM_MEMORY_HARD": "cgroup"}, hardLimit, 85 << 20, ""},
		{"the container's limit, in capitals", map[string]string{"HAKMEM_MEMORY_HARD": "CGROUP"}, hardLimit, 85 << 20, ""},
		{"a share of the container", map[string]string{"HAKMEM_MEMORY_HARD": "50%"}, hardLimit, 50 << 20, ""},
		{"all of the container", map[string]string{"HAKMEM_MEMORY_HARD": "100%"}, hardLimit, 100 << 20, ""},
		{"soft limit by share", map[string]string{"HAKMEM_MEMORY_SOFT": "60%", "HAKMEM_MEMORY_HARD": "cgroup"}, func(s *Settings) int { return s.MemorySoft }, 60 << 20, ""},
		{"both by the word", map[string]string{"HAKMEM_MEMORY_SOFT": "cgroup", "HAKMEM_MEMORY_HARD": "cgroup"}, func(s *Settings) int { return s.MemorySoft }, 85 << 20, ""},
		{"a soft share above the hard one", map[string]string{"HAKMEM_MEMORY_SOFT": "90%", "HAKMEM_MEMORY_HARD": "80%"}, func(s *Settings) int { return s.MemorySoft }, 80 << 20, "HAKMEM_MEMORY_SOFT"},
		{"a share of nothing", map[string]string{"HAKMEM_MEMORY_HARD": "0%"}, hardLimit, 0, "HAKMEM_MEMORY_HARD"},
		{"more than the container", map[string]string{"HAKMEM_MEMORY_HARD": "101%"}, hardLimit, 0, "HAKMEM_MEMORY_HARD"},
		{"half a percent", map[string]string{"HAKMEM_MEMORY_HARD": "0.5%"}, hardLimit, 0, "HAKMEM_MEMORY_HARD"},
		{"no number", map[string]string{"HAKMEM_MEMORY_HARD": "%"}, hardLimit, 0, "HAKMEM_MEMORY_HARD"},
		{"a share that is below a superslab", map[string]string{"HAKMEM_MEMORY_HARD": "1%"}, hardLimit, 0, "HAKMEM_MEMORY_HARD"},
		{"a share for another number", map[string]string{"HAKMEM_REFILL": "50%"}, func(s *Settings) int { return s.Refill }, 64, "HAKMEM_REFILL"},
		{"hard limit below a superslab", map[string]string{"HAKMEM_MEMORY_HARD": "2097151"}, func(s *Settings) int { return s.MemoryHard }, 0, "HAKMEM_MEMORY_HARD"},
		{"one in 50", map[string]string{"HAKMEM_GUARD": "1/50"}, func(s *Settings) int { return s.Guard }, 50, ""},
		{"none", map[string]string{"HAKMEM_GUARD": "0"}, func(s *Settings) int { return s.Guard }, 0, ""},
		{"one in none", map[string]string{"HAKMEM_GUARD": "1/0"}, func(s *Settings) int { return s.Guard }, 0, "HAKMEM_GUARD"},
		{"no callers", map[string]string{"HAKMEM_SITES": "names"}, func(s *Settings) int { return s.Sites.Rate() }, 0, ""},
		{"one caller in 64", map[string]string{"HAKMEM_SITES": "PC"}, func(s *Settings) int { return s.Sites.Rate() }, 64, ""},
		{"every caller", map[string]string{"HAKMEM_SITES": "pc/1"}, func(s *Settings) int { return s.Sites.Rate() }, 1, ""},
		{"one caller in 1000", map[string]string{"HAKMEM_SITES": "pc/1000"}, func(s *Settings) int { return s.Sites.Rate() }, 1000, ""},
		{"one caller in none", map[string]string{"HAKMEM_SITES": "pc/0"}, func(s *Settings) int { return s.Sites.Rate() }, 0, "HAKMEM_SITES"},
		{"one name in 2", map[string]string{"HAKMEM_SITES": "names/2"}, func(s *Settings) int { return s.Sites.Rate() }, 0, "HAKMEM_SITES"},
		{"a rate without pc", map[string]string{"HAKMEM_SITES": "1/64"}, func(s *Settings) int { return s.Sites.Rate() }, 0, "HAKMEM_SITES"},
		{"a rate without 1/", map[string]string{"HAKMEM_GUARD": "50"}, func(s *Settings) int { return s.Guard }, 0, "HAKMEM_GUARD"},
		{"no choice", map[string]string{"HAKMEM_THP": "sometimes"}, func(s *Settings) int { return int(s.THP) }, int(THPAuto), "HAKMEM_THP"},
		{"neither a choice nor a time", map[string]string{"HAKMEM_KEEP": "500"}, keep, int(KeepAuto), "HAKMEM_KEEP"},
		{"a time with a part of a millisecond", map[string]string{"HAKMEM_KEEP": "1.5ms"}, keep, int(KeepAuto), "HAKMEM_KEEP"},
		{"too long", map[string]string{"HAKMEM_KEEP": "61m"}, keep, int(KeepAuto), "HAKMEM_KEEP"},
		{"a negative time", map[string]string{"HAKMEM_KEEP": "-1s"}, keep, int(KeepAuto), "HAKMEM_KEEP"},
		{"a time", map[string]string{"HAKMEM_KEEP": "1.5s"}, keep, int(KeepFor) + 1500, ""},
		{"never", map[string]string{"HAKMEM_KEEP": "Never"}, keep, int(KeepNever), ""},
		{"a price", map[string]string{"HAKMEM_MEMORY_PRICE": "0.013"}, price, 13, ""},
		{"a price for a whole number", map[string]string{"HAKMEM_MEMORY_PRICE": "2"}, price, 2000, ""},
		{"no price", map[string]string{"HAKMEM_MEMORY_PRICE": "free"}, price, 100, "HAKMEM_MEMORY_PRICE"},
		{"too many digits", map[string]string{"HAKMEM_MEMORY_PRICE": "0.0015"}, price, 100, "HAKMEM_MEMORY_PRICE"},
		{"too low a price", map[string]string{"HAKMEM_MEMORY_PRICE": "0"}, price, 100, "HAKMEM_MEMORY_PRICE"},
		{"NaN", map[string]string{"HAKMEM_MEMORY_PRICE": "nan"}, price, 100, "HAKMEM_MEMORY_PRICE"},
		{"alias", map[string]string{"HAKMEM_CAP_MID": "32"}, midBlocks, 32, ""},
		{"bad alias", map[string]string{"HAKMEM_CAP_MID": "1"}, midBlocks, 127, "HAKMEM_CAP_MID"},
		{"alias and name", map[string]string{"HAKMEM_CAP_MID": "32", "HAKMEM_MAG_MID_BLOCKS": "32"}, midBlocks, 32, ""},
		{"alias, and the name empty", map[string]string{"HAKMEM_CAP_MID": "32", "HAKMEM_MAG_MID_BLOCKS": ""}, midBlocks, 32, ""},
		{"alias against name", map[string]string{"HAKMEM_CAP_MID": "32", "HAKMEM_MAG_MID_BLOCKS": "16"}, midBlocks, 127, "HAKMEM_MAG_MID_BLOCKS"},
		{"alias and name alike", map[string]string{"HAKMEM_SS_EMPTY_REUSE": "off", "HAKMEM_EMPTY_REUSE": "0"}, emptyReuse, 0, ""},
		{"alias of the maximum below minimum", map[string]string{"HAKMEM_SS_COMMIT_MIN": "67108864", "HAKMEM_SS_COMMIT_MAX": "2097152"},
			func(s *Settings) int { return s.CommitMax }, 64 << 20, "HAKMEM_SS_COMMIT_MAX"},
		{"soft limit above the hard one", map[string]string{"HAKMEM_MEMORY_HARD": "4194304", "HAKMEM_MEMORY_SOFT": "4194305"},
			func(s *Settings) int { return s.MemorySoft }, 4194304, "HAKMEM_MEMORY_SOFT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, errs := Build(lookup(tt.env))
			if got := tt.get(s); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			if tt.bad == "" {
				if len(errs) > 0 {
					t.Errorf("unexpected: %v", errs)
				}
				return
			}
			var g *SettingError
			if len(errs) != 1 || !errors.As(errs[0], &g) || g.Name != tt.bad || !strings.Contains(g.Error(), g.Value) || g.Remedy == "" {
				t.Errorf("errors %v; want one of %s with its value and a remedy", errs, tt.bad)
			}
		})
	}
}

// withContainer gives the process a container's limit for the test.
func withContainer(t *testing.T, limit uint64, ok bool) {
	old := containerLimit
	t.Cleanup(func() { containerLimit = old })
	containerLimit = func() (uint64, bool) { return limit, ok }
}

// TestContainer: without a container's limit a share of it is no limit, and no error. A limit is not
// beyond the setting's range.
func TestContainer(t *testing.T) {
	for _, c := range []struct {
		limit uint64
		ok    bool
		value string
		want  int
	}{{0, false, "cgroup", 0}, {0, false, "70%", 0}, {1 << 61, true, "cgroup", 1 << 40}, {1<<64 - 1, true, "100%", 1 << 40}, {0, true, "cgroup", 0}, {200 << 20, true, "1%", 2 << 20}} {
		withContainer(t, c.limit, c.ok)
		s, errs := Build(lookup(map[string]string{"HAKMEM_MEMORY_HARD": c.value}))
		if s.MemoryHard != c.want || len(errs) > 0 {
			t.Errorf("%s of %d, %t: %d, %v, want %d", c.value, c.limit, c.ok, s.MemoryHard, errs, c.want)
		}
	}
	withContainer(t, 4<<20, true)
	_, errs := Build(lookup(map[string]string{"HAKMEM_MEMORY_HARD": "25%"}))
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), `"25% = 1048`) {
		t.Errorf("errors %v, want one that names the share and what it comes to", errs)
	}
}

func keep(s *Settings) int { return int(s.Keep) }

func price(s *Settings) int { return s.MemoryPrice }

func hardLimit(s *Settings) int { return s.MemoryHard }

func midBlocks(s *Settings) int { return s.MagMidBlocks }

func harden(s *Settings) int {
	if s.Harden {
		return 1
	}
	return 0
}

func TestUnknown(t *testing.T) {
	errs := unknown([]string{"HAKMEM_GAURD=1/1", "HAKMEM_GUARD=1/1", "PATH=/bin", "HAKMEM_TEST_X=1", "HAKMEM_PROOF_OPS=5", "HAKMEM_", "=C:=C:"})
	if len(errs) != 2 || !strings.Contains(errs[0].Error(), `HAKMEM_GAURD: cannot use the value "1/1"`) {
		t.Errorf("%v", errs)
	}
}

// TestErrorsToAppend: two callers that append to the list do not overwrite each other's errors.
func TestErrorsToAppend(t *testing.T) {
	before, errs := Current(), Errors()
	defer Set(before, errs)
	Set(before, append(make([]error, 0, 4), errors.New("one")))
	a := append(Errors(), errors.New("a"))
	b := append(Errors(), errors.New("b"))
	if a[1].Error() != "a" || b[1].Error() != "b" {
		t.Errorf("%v and %v", a, b)
	}
}

func emptyReuse(s *Settings) int {
	if s.EmptyReuse {
		return 1
	}
	return 0
}

// TestTable checks that every row is complete, and that the setting accepts its default and each
// preset's value and shows them again.
func TestTable(t *testing.T) {
	seen := map[string]*Setting{}
	for i := range settings {
		g := &settings[i]
		if g.Meaning == "" || g.Since == "" || !strings.HasPrefix(g.Name, "HAKMEM_") || seen[g.Name] != nil {
			t.Errorf("row %d is incomplete or double: %+v", i, g)
		}
		seen[g.Name] = g
		s, errs := Build(lookup(map[string]string{g.Name: g.Default}))
		if len(errs) > 0 || g.Value(s) != g.Default {
			t.Errorf("%s: default %q is shown as %q (%v)", g.Name, g.Default, g.Value(s), errs)
		}
	}
	for _, mode := range Modes {
		for name, v := range presets[mode] {
			g := seen[name]
			if g == nil || v < g.Min || g.Kind == Number && v > g.Max {
				t.Errorf("mode %s: %s=%d is not a value of the setting", mode, name, v)
			}
		}
	}
	if len(presets) != len(Modes) {
		t.Errorf("%d presets for %d modes", len(presets), len(Modes))
	}
}

// TestValues: a setting's value is shown as it would be written.
func TestValues(t *testing.T) {
	env := map[string]string{"HAKMEM_TRACE": "some where", "HAKMEM_GUARD": "1/77", "HAKMEM_MODE": "minimal", "HAKMEM_THP": "always", "HAKMEM_REFILL": "9", "HAKMEM_SITES": "pc/5"}
	s, errs := Build(lookup(env))
	if len(errs) != 0 {
		t.Fatal(errs)
	}
	seen := 0
	for i := range All() {
		g := &All()[i]
		if want, ok := env[g.Name]; ok {
			seen++
			if got := g.Value(s); got != want {
				t.Errorf("%s = %q, want %q", g.Name, got, want)
			}
		}
	}
	if seen != len(env) {
		t.Errorf("%d of %d settings exist", seen, len(env))
	}
}
