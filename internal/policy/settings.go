package policy

import (
	"strconv"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// This file holds the table of settings, and the presets of the modes. The table never changes.

// Kind says how a setting's value is read.
type Kind uint8

const (
	Switch  Kind = iota // 0 | 1 | off | on | no | yes | false | true
	Number              // a decimal integer within [Min, Max]
	Decimal             // a number with up to three digits behind the point. Min, Max and the value are thousandths
	Choice              // one of a list of words
	Text                // anything
	Rate                // 1/N, or 0
)

// Setting is one row of the table of settings.
type Setting struct {
	Name    string // environment variable
	Alias   string // an earlier name of the variable, which is read as well, or ""
	Meaning string // one line
	Default string // value when neither the variable, nor an Option, nor a mode sets it
	Since   string // version that introduced it
	Kind    Kind
	Min     int64 // Number: smallest value accepted
	Max     int64 // Number: largest value accepted
	Choices []string
	// Container says that a number may also be given as a share of the container's memory limit.
	Container bool
	// Also says what a choice may be besides its words, or is nil.
	Also *Form

	get func(*Settings) int64
	set func(*Settings, int64)

	text func(*Settings) *string // Text: the field
}

// These are the most that the engine has room for. It asserts that it has room for them
// (internal/engine/front.go and large_cache.go).
const (
	MaxMagBlocks    = 1023 // slots of a magazine up to 1 KiB: 8 KiB with the sentinel
	MaxMagMidBlocks = 127  // slots of a magazine above 1 KiB: 1 KiB with the sentinel
	MaxSharedSlots  = 16   // shared slots of a class: two cache lines
)

// superslab is the size of a superslab in bytes, the smallest step in which memory is committed.
const superslab = 2 << 20

// number returns a row for a decimal number.
func number(name, meaning, def string, min, max int64, field func(*Settings) *int) Setting {
	return Setting{Name: name, Meaning: meaning, Default: def, Since: "0.1", Kind: Number, Min: min, Max: max,
		get: func(s *Settings) int64 { return int64(*field(s)) },
		set: func(s *Settings, v int64) { *field(s) = int(v) }}
}

// onOff returns a row for a switch.
func onOff(name, meaning, def string, field func(*Settings) *bool) Setting {
	return Setting{Name: name, Meaning: meaning, Default: def, Since: "0.1", Kind: Switch,
		get: func(s *Settings) int64 {
			if *field(s) {
				return 1
			}
			return 0
		},
		set: func(s *Settings, v int64) { *field(s) = v != 0 }}
}

// choice returns a row for one of a list of words.
func choice(name, meaning, def string, choices []string, get func(*Settings) int64, set func(*Settings, int64)) Setting {
	return Setting{Name: name, Meaning: meaning, Default: def, Since: "0.1", Kind: Choice, Choices: choices, get: get, set: set}
}

// formerly gives the row an alias: the setting's name in the C allocator, which is called hakmem
// too.
func (g Setting) formerly(alias string) Setting {
	g.Alias = alias
	return g
}

// ofContainer lets the row's number be given as a share of the container's memory limit.
func (g Setting) ofContainer() Setting {
	g.Container = true
	return g
}

// or lets a choice be something else besides its words. form makes the Form from these.
func (g Setting) or(form func(words []string) Form) Setting {
	f := form(g.Choices)
	g.Also = &f
	return g
}

// Modes are the presets of HAKMEM_MODE, in the order of the C allocator.
var Modes = []string{"minimal", "fast", "balanced", "learning", "research"}

// presets gives, for each mode, the settings that differ from the defaults.
var presets = map[string]map[string]int64{
	// minimal: the least memory held by caches.
	"minimal": {"HAKMEM_MAG_BLOCKS": 16, "HAKMEM_MAG_BYTES": 4 << 10, "HAKMEM_MAG_MID_BLOCKS": 4, "HAKMEM_MAG_MID_BYTES": 32 << 10, "HAKMEM_MAG_GROW_BYTES": 0, "HAKMEM_REFILL": 16},
	// fast: the most blocks cached, larger commits.
	"fast":     {"HAKMEM_MAG_BYTES": 128 << 10, "HAKMEM_MAG_MID_BYTES": 1 << 20, "HAKMEM_MAG_GROW_BYTES": 1 << 20, "HAKMEM_COMMIT_MIN": 64 << 20},
	"balanced": {},
	// learning: what is learnt is frozen when it has settled.
	"learning": {"HAKMEM_EVO": int64(learn.EvolutionAuto)},
	// research: strategies play real matches.
	"research": {"HAKMEM_ELO": int64(learn.DecideReal)},
}

// settings is the one table of settings. The origin of each number is in docs/ledger.md, under the
// setting's name. The table and hakmem's Options agree (options_table_test.go).
var settings = []Setting{
	{Name: "HAKMEM_MODE", Meaning: "preset over the settings below", Default: "balanced", Since: "0.1", Kind: Choice, Choices: Modes},
	{Name: "HAKMEM_TRACE", Meaning: "file to write a trace of every call into (see StartTrace), from the first call on", Since: "0.1", Kind: Text,
		text: func(s *Settings) *string { return &s.Trace }},
	{Name: "HAKMEM_POLICY", Meaning: "file to read what was learnt before from, when the program starts (see ExportPolicy)", Since: "0.1", Kind: Text,
		text: func(s *Settings) *string { return &s.Policy }},
	{Name: "HAKMEM_POLICY_EXPORT", Meaning: "file to write what was learnt into, every ten seconds (see ExportPolicy)", Since: "0.1", Kind: Text,
		text: func(s *Settings) *string { return &s.PolicyExport }},
	onOff("HAKMEM_FAST_SECTION", "use the fast section, which is not preempted; off: pin the P in every call", "1",
		func(s *Settings) *bool { return &s.FastSection }).formerly("HAKMEM_FRONT_FASTLANE"),
	number("HAKMEM_MAG_BLOCKS", "most blocks in a magazine of a class up to 1 KiB", "1023", 2, MaxMagBlocks,
		func(s *Settings) *int { return &s.MagBlocks }).formerly("HAKMEM_FRONT_V2_CAP"),
	number("HAKMEM_MAG_BYTES", "byte budget of a magazine of a class up to 1 KiB", "65536", 0, 1<<30,
		func(s *Settings) *int { return &s.MagBytes }),
	number("HAKMEM_MAG_MID_BLOCKS", "most blocks in a magazine of a class above 1 KiB", "127", 2, MaxMagMidBlocks,
		func(s *Settings) *int { return &s.MagMidBlocks }).formerly("HAKMEM_CAP_MID"),
	number("HAKMEM_MAG_MID_BYTES", "byte budget of a magazine of a class above 1 KiB", "131072", 0, 1<<30,
		func(s *Settings) *int { return &s.MagMidBytes }),
	number("HAKMEM_MAG_GROW_BYTES", "byte budget to which a magazine of a class up to 32 KiB grows that runs full and empty in turns", "524288", 0, 1<<30,
		func(s *Settings) *int { return &s.MagGrowBytes }),
	number("HAKMEM_MAG_LARGE_BYTES", "byte budget of a magazine of a class above 32 KiB", "2097152", 0, 1<<30,
		func(s *Settings) *int { return &s.MagLargeBytes }).formerly("HAKMEM_MAG_WARM_BYTES"),
	number("HAKMEM_SHARED_SLOTS", "shared slots of each class above 32 KiB, for what overflows the magazines", "16", 0, MaxSharedSlots,
		func(s *Settings) *int { return &s.SharedSlots }).formerly("HAKMEM_WARM_SLOTS"),
	choice("HAKMEM_W_MAX", "a cached block of up to so many times the request may serve an allocation above 32 KiB for which its class has none; auto: as many as the learner says", "1", []string{"1", "1.25", "1.5", "1.75", "auto"},
		func(s *Settings) int64 { return int64(s.WMax) },
		func(s *Settings, v int64) { s.WMax = WMax(v) }),
	number("HAKMEM_HUGE_CACHE_BYTES", "largest block above 2 MiB that is cached when it is freed", "268435456", 0, 1<<40,
		func(s *Settings) *int { return &s.HugeCacheBytes }).formerly("HAKMEM_WHALE_BYTES"),
	number("HAKMEM_CACHE_BUDGET", "bytes that magazines, leases and shared slots together should hold at most; 0: 12 MiB and 128 KiB for each front in use, at most 4 MiB for each, or a 16th of the memory in use", "0", 0, 1<<40,
		func(s *Settings) *int { return &s.CacheBudget }),
	choice("HAKMEM_KEEP", "free memory: keep it for as long as the learner says (auto), until Trim or a memory limit takes it (always), not at all (never), or for a time such as 500ms", "auto", []string{"auto", "always", "never"},
		func(s *Settings) int64 { return int64(s.Keep) },
		func(s *Settings, v int64) { s.Keep = Keep(v) }).or(timeForm(time.Hour)),
	{Name: "HAKMEM_MEMORY_PRICE", Meaning: "what a GiB held for a second costs, in seconds of CPU time: the more, the sooner free memory is returned", Default: "0.1", Since: "0.1", Kind: Decimal, Min: 1, Max: 100_000,
		get: func(s *Settings) int64 { return int64(s.MemoryPrice) }, set: func(s *Settings, v int64) { s.MemoryPrice = int(v) }},
	choice("HAKMEM_EVO", "what is learnt: nothing, and hold times are the break-even time (off); always (learn); nothing, and what a policy file says is used (frozen); or until it has settled, and again when it no longer fits (auto)", "learn", learn.EvolutionPolicies[:],
		func(s *Settings) int64 { return int64(s.Evo) },
		func(s *Settings, v int64) { s.Evo = learn.EvolutionPolicy(v) }),
	choice("HAKMEM_ELO", "the board of strategies: only compares what they would cost (shadow), puts the leader in force (leader), or uses them in turns (real)", "shadow", []string{"shadow", "leader", "real"},
		func(s *Settings) int64 { return int64(s.Elo) },
		func(s *Settings, v int64) { s.Elo = learn.Deciding(v) }),
	choice("HAKMEM_TOUCH", "the memory of fresh blocks from 64 KiB to 64 MiB: it comes when the program touches it (fault), with one call for each block (populate), with huge pages too (huge), or as costs least by what is learnt (auto)", "fault", []string{"fault", "auto", "populate", "huge"},
		func(s *Settings) int64 { return int64(s.Touch) },
		func(s *Settings, v int64) { s.Touch = Touch(v) }),
	number("HAKMEM_DECAY_MS", "the unit of the scavenger's times in milliseconds: with a tenth of it, everything that is idle goes back ten times as fast", "2200", 1, 1<<24,
		func(s *Settings) *int { return &s.DecayMs }),
	choice("HAKMEM_THP", "transparent huge pages: ask the system for none, leave it to the system (auto), ask for all, or leave it to the system and make some of slabs that are in use for long, as far as a trial finds the program faster (canary)", "auto", []string{"never", "auto", "always", "canary"},
		func(s *Settings) int64 { return int64(s.THP) },
		func(s *Settings, v int64) { s.THP = THP(v) }),
	number("HAKMEM_MEMORY_SOFT", "bytes of memory near which the scavenger keeps nothing; 0: no limit; or cgroup, or 60%: of the container's limit (see SetMemoryLimit)", "0", 0, 1<<40,
		func(s *Settings) *int { return &s.MemorySoft }).ofContainer(),
	number("HAKMEM_MEMORY_HARD", "bytes of memory beyond which allocations return nil; 0: no limit; or cgroup, or 80%: of the container's limit (see ContainerLimit)", "0", 0, 1<<40,
		func(s *Settings) *int { return &s.MemoryHard }).ofContainer(),
	{Name: "HAKMEM_GUARD", Meaning: "put one in N blocks between guard pages: 1/N, such as 1/5000; 0: none (see CatchFaults)", Default: "0", Since: "0.1", Kind: Rate, Min: 0, Max: 1 << 40,
		get: func(s *Settings) int64 { return int64(s.Guard) }, set: func(s *Settings, v int64) { s.Guard = int(v) }},
	choice("HAKMEM_SITES", "which blocks have a site: those that the program allocates with one (names), or one in 64 of the others, too, whose site is their caller (pc); pc/N: one in N", "names", []string{"names", "pc"},
		func(s *Settings) int64 { return int64(s.Sites) },
		func(s *Settings, v int64) { s.Sites = Sites(v) }).or(rateForm(1 << 30)),
	number("HAKMEM_PROFILE_RATE", "mean bytes from one sample of the profile of allocations to the next, such as 524288; 1: every block; 0: no profile (see package hakmempprof)", "0", 0, 1<<40,
		func(s *Settings) *int { return &s.ProfileRate }),
	onOff("HAKMEM_HARDEN", "find writes behind a block and after its free: canaries, poison, quarantine, random order; no fast section", "0",
		func(s *Settings) *bool { return &s.Harden }),
	onOff("HAKMEM_TIMING", "count the cycles of slow paths by phase (see ReadStats)", "0",
		func(s *Settings) *bool { return &s.Timing }),
	number("HAKMEM_REFILL", "most blocks moved into a magazine by one miss; up to four times as many where it has grown", "64", 1, 127,
		func(s *Settings) *int { return &s.Refill }),
	choice("HAKMEM_BATCH", "how many blocks a refill moves and how far a search for EMPTY slabs goes: as HAKMEM_REFILL and HAKMEM_EMPTY_SCAN_LIMIT say (fixed), or half, once or twice that, as is learnt (auto)", "fixed", []string{"fixed", "auto"},
		func(s *Settings) int64 { return int64(s.Batch) },
		func(s *Settings, v int64) { s.Batch = Batch(v) }),
	onOff("HAKMEM_EMPTY_REUSE", "reuse EMPTY slabs as a stage of their own and across classes", "1",
		func(s *Settings) *bool { return &s.EmptyReuse }).formerly("HAKMEM_SS_EMPTY_REUSE"),
	onOff("HAKMEM_EMPTY_FIRST", "try EMPTY slabs of the class before partly free ones", "0",
		func(s *Settings) *bool { return &s.EmptyFirst }).formerly("HAKMEM_SS_EMPTY_FIRST"),
	number("HAKMEM_EMPTY_SCAN_LIMIT", "superslabs looked at for EMPTY slabs in one search", "16", 1, 1<<20,
		func(s *Settings) *int { return &s.EmptyScanLimit }).formerly("HAKMEM_SS_EMPTY_SCAN_LIMIT"),
	number("HAKMEM_EMPTY_MIN_KEEP", "partly free slabs that a class keeps from other classes", "0", 0, 1<<20,
		func(s *Settings) *int { return &s.EmptyMinKeep }).formerly("HAKMEM_SS_MIN_KEEP"),
	number("HAKMEM_COMMIT_MIN", "first commit step in bytes", "2097152", superslab, 1<<32,
		func(s *Settings) *int { return &s.CommitMin }).formerly("HAKMEM_SS_COMMIT_MIN"),
	number("HAKMEM_COMMIT_MAX", "largest commit step in bytes", "67108864", superslab, 1<<32,
		func(s *Settings) *int { return &s.CommitMax }).formerly("HAKMEM_SS_COMMIT_MAX"),
	number("HAKMEM_REGION_BYTES", "address range to reserve, in bytes", strconv.FormatInt(DefaultRegion, 10), 256<<20, 1<<40,
		func(s *Settings) *int { return &s.RegionBytes }),
	choice("HAKMEM_DYN", "block sizes to add to the fixed ones above 1 KiB: two at most, where they save memory (auto); none (off); or one or two sizes, such as 4224,16512, multiples of 128", "auto", []string{"auto", "off"},
		func(s *Settings) int64 { return int64(s.Dyn) },
		func(s *Settings, v int64) { s.Dyn = Dyn(v) }).or(dynForm),
}

// All returns the table of settings in its documented order. The caller must not change it.
func All() []Setting { return settings }

// Find returns the setting with the given name or alias, or nil.
func Find(name string) *Setting {
	for i := range settings {
		if g := &settings[i]; name != "" && (g.Name == name || g.Alias == name) {
			return g
		}
	}
	return nil
}

// Value returns setting g's value in s, spelled as the environment would spell it.
func (g *Setting) Value(s *Settings) string {
	switch {
	case g.Kind == Text:
		return *g.text(s)
	case g.isMode():
		return s.Mode
	case g.Kind == Choice && g.get(s) >= int64(len(g.Choices)):
		return g.Also.text(g.get(s))
	case g.Kind == Choice:
		return g.Choices[g.get(s)]
	case g.Kind == Decimal:
		return strconv.FormatFloat(float64(g.get(s))/1000, 'f', -1, 64)
	case g.Kind == Rate && g.get(s) != 0:
		return "1/" + strconv.FormatInt(g.get(s), 10)
	}
	return strconv.FormatInt(g.get(s), 10)
}

// isMode reports whether g is HAKMEM_MODE, which Build reads before the other settings.
func (g *Setting) isMode() bool { return g.Kind == Choice && g.set == nil }
