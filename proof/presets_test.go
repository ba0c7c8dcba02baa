package proof

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit"
)

// preset is a set of settings, as environment variables.
type preset struct {
	name     string
	settings string // NAME=VALUE, separated by spaces
}

// foremost are the presets that take the most other paths than by default. Only these run the seeds of
// FuzzAll, some seconds each, and only these are run with the race detector.
var foremost = []string{"default", "tiny magazines", "scarce caches", "harden", "guard few", "keep nothing", "soft limit", "real matches", "EMPTY first", "wider blocks"}

// presets are the sets with which everything is run again, each in a process of its own, because
// settings are read when a process starts. Together they have every setting away from its default.
var presets = []preset{
	{"default", ""},
	{"pinned", "HAKMEM_FAST_SECTION=0"},
	// The smallest value of everything, so that each call takes a slow path.
	{"tiny magazines", "HAKMEM_MAG_BLOCKS=2 HAKMEM_MAG_BYTES=0 HAKMEM_MAG_MID_BLOCKS=2 HAKMEM_MAG_MID_BYTES=0 HAKMEM_MAG_GROW_BYTES=0 HAKMEM_MAG_LARGE_BYTES=0 HAKMEM_SHARED_SLOTS=0 HAKMEM_HUGE_CACHE_BYTES=0 HAKMEM_REFILL=1"},
	{"big magazines", "HAKMEM_MODE=fast HAKMEM_MAG_MID_BLOCKS=127 HAKMEM_MAG_BYTES=1073741824 HAKMEM_MAG_MID_BYTES=1073741824 HAKMEM_MAG_GROW_BYTES=1073741824 HAKMEM_MAG_LARGE_BYTES=1073741824 HAKMEM_REFILL=127"},
	{"minimal", "HAKMEM_MODE=minimal"},
	{"scarce caches", "HAKMEM_CACHE_BUDGET=1 HAKMEM_DECAY_MS=22"},
	{"harden", "HAKMEM_HARDEN=1"},
	{"guard all", "HAKMEM_GUARD=1/1"},
	{"guard some", "HAKMEM_GUARD=1/100"},
	{"guard few", "HAKMEM_GUARD=1/5000"},
	{"harden and guard some", "HAKMEM_HARDEN=1 HAKMEM_GUARD=1/100"},
	{"callers", "HAKMEM_SITES=pc/1"},
	{"some callers, guard some", "HAKMEM_SITES=pc/10 HAKMEM_GUARD=1/100"},
	{"some callers, harden", "HAKMEM_SITES=pc HAKMEM_HARDEN=1"},
	{"profile all", "HAKMEM_PROFILE_RATE=1"},
	{"profile some", "HAKMEM_PROFILE_RATE=16384"},
	{"profile and guard all", "HAKMEM_PROFILE_RATE=1 HAKMEM_GUARD=1/1"},
	{"profile all, harden, some callers", "HAKMEM_PROFILE_RATE=1 HAKMEM_HARDEN=1 HAKMEM_SITES=pc/10"},
	{"keep always", "HAKMEM_KEEP=always"},
	{"keep nothing", "HAKMEM_DECAY_MS=1 HAKMEM_MEMORY_PRICE=100 HAKMEM_HUGE_CACHE_BYTES=0"},
	{"huge pages", "HAKMEM_THP=always"},
	{"learnt faults", "HAKMEM_TOUCH=auto HAKMEM_HUGE_CACHE_BYTES=0"},
	{"populated", "HAKMEM_TOUCH=populate HAKMEM_MAG_LARGE_BYTES=0 HAKMEM_SHARED_SLOTS=0"},
	{"populated with huge pages", "HAKMEM_TOUCH=huge HAKMEM_HUGE_CACHE_BYTES=0"},
	{"huge pages by canary", "HAKMEM_THP=canary HAKMEM_DECAY_MS=22"},
	{"no huge pages", "HAKMEM_THP=never"},
	{"soft limit", "HAKMEM_MEMORY_SOFT=4194304"},
	{"hard limit", "HAKMEM_MEMORY_HARD=16777216 HAKMEM_MEMORY_SOFT=8388608"},
	{"wider blocks", "HAKMEM_W_MAX=1.75 HAKMEM_MAG_LARGE_BYTES=8388608"},
	{"wider blocks and batches, learnt", "HAKMEM_W_MAX=auto HAKMEM_BATCH=auto HAKMEM_DECAY_MS=22"},
	{"timing", "HAKMEM_TIMING=1"},
	{"frozen", "HAKMEM_EVO=frozen"},
	{"real matches", "HAKMEM_MODE=research HAKMEM_EVO=auto"},
	{"nothing learnt", "HAKMEM_EVO=off HAKMEM_ELO=leader"},
	{"EMPTY first", "HAKMEM_EMPTY_FIRST=1 HAKMEM_EMPTY_SCAN_LIMIT=1 HAKMEM_EMPTY_MIN_KEEP=3"},
	{"EMPTY never", "HAKMEM_EMPTY_REUSE=0"},
	{"added sizes", "HAKMEM_DYN=4224,16512"},
	{"small region", "HAKMEM_REGION_BYTES=268435456 HAKMEM_COMMIT_MIN=4194304 HAKMEM_COMMIT_MAX=4194304"},
}

// pointed are the presets in which wrong pointers meet other kinds of blocks than by default: guarded ones
// next to hardened ones and to plain ones. The seeds of FuzzPointers take a minute there, and are run only
// with these.
var pointed = []string{"guard some", "harden and guard some"}

// The number of rapid checks, and of operations of TestStress, for each preset: they take some
// seconds. The parent's flags and variable override them.
const (
	checksPerPreset = 15
	opsPerPreset    = 300_000
)

// untilDeadline returns a context for a child process, which ends before the test's own process is killed.
func untilDeadline(t *testing.T) (context.Context, context.CancelFunc) {
	if end, ok := t.Deadline(); ok {
		return context.WithDeadline(t.Context(), end.Add(-5*time.Second))
	}
	return context.WithCancel(t.Context())
}

// TestPresets runs the model, the fuzz targets' seeds and the stress in a child
// for each preset.
func TestPresets(t *testing.T) {
	ops, n := os.Getenv(opsVar), checksPerPreset
	if testing.Short() || testkit.Race {
		n /= 3
	}
	if ops == "" {
		ops = strconv.Itoa(opsPerPreset / checksPerPreset * n)
	}
	long := !testing.Short() && !testkit.Race
	args := []string{"-test.v", "-rapid.nofailfile"}
	checks := fmt.Sprintf("-rapid.checks=%d", n)
	flag.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "rapid.checks":
			checks = "-rapid.checks=" + f.Value.String()
		case "rapid.steps", "rapid.seed": // not test.short: n takes it into account, and rapid would do almost nothing with it
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	args = append(args, checks)
	for _, p := range presets {
		if testkit.Race && !slices.Contains(foremost, p.name) {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel() // as many children at the same time as there are processors
			ctx, stop := untilDeadline(t)
			defer stop()
			run := "^(TestModel|TestStress|FuzzHandOver)$"
			switch { // FuzzAll has the actions of the other targets
			case long && slices.Contains(pointed, p.name):
				run = "^(TestModel|TestStress|FuzzHandOver|FuzzAll|FuzzPointers)$"
			case long && slices.Contains(foremost, p.name):
				run = "^(TestModel|TestStress|FuzzHandOver|FuzzAll)$"
			}
			cmd := exec.CommandContext(ctx, os.Args[0], append(args[:len(args):len(args)], "-test.run="+run)...)
			for _, v := range os.Environ() {
				if name, _, _ := strings.Cut(v, "="); policy.Find(name) == nil && name != opsVar {
					cmd.Env = append(cmd.Env, v)
				}
			}
			cmd.Env = append(append(cmd.Env, strings.Fields(p.settings)...), opsVar+"="+ops)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\nto run it again: %s go test ./proof -run '%s' -rapid.nofailfile, with the -rapid.seed below\n%s", err, p.settings, run, out)
			}
			for _, line := range strings.Split(string(out), "\n") {
				if strings.Contains(line, "actions") || strings.Contains(line, "in all tests so far") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}

// TestPresetsHaveEverySetting checks that every setting is in a preset, and that the presets are well
// formed.
func TestPresetsHaveEverySetting(t *testing.T) {
	seen := map[string]bool{
		"HAKMEM_POLICY":        true, // a file of what was learnt; policy_test.go
		"HAKMEM_POLICY_EXPORT": true, // a file that is written; policy_test.go
		"HAKMEM_TRACE":         true, // a file; the action "trace" does the same
	}
	settings := policy.All()
	for _, p := range presets {
		set := map[string]string{}
		for _, v := range strings.Fields(p.settings) {
			name, value, _ := strings.Cut(v, "=")
			set[name] = value
			if g := policy.Find(name); g == nil || g.Name != name {
				t.Errorf("preset %q: there is no setting %s", p.name, name)
			}
		}
		s, errs := policy.Build(func(name string) (string, bool) { v, ok := set[name]; return v, ok })
		if len(errs) > 0 {
			t.Errorf("preset %q: %v", p.name, errs)
		}
		for i := range settings {
			if g := &settings[i]; g.Value(s) != g.Default {
				seen[g.Name] = true
			}
		}
	}
	for _, name := range slices.Concat(foremost, pointed) {
		if !slices.ContainsFunc(presets, func(p preset) bool { return p.name == name }) {
			t.Errorf("there is no preset %q", name)
		}
	}
	for _, g := range settings {
		if !seen[g.Name] {
			t.Errorf("no preset has %s away from its default", g.Name)
		}
	}
}
