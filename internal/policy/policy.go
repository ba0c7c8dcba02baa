// Package policy owns every tunable of hakmem: the immutable snapshot that
// slow paths read, and the table of HAKMEM_* gates that fills it.
//
// There is one snapshot at a time, behind one atomic pointer. The fast sections of
// malloc and free never read it; slow paths load it where they need it, and after
// the first allocation it stays. Nothing in a Snapshot changes after it is published: a change of
// policy is a new Snapshot.
package policy

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Snapshot is one complete, immutable set of tunables. The zero value is not
// valid; Current has the one in force, Build makes another.
type Snapshot struct {
	// MagBlocks is the largest number of blocks a tiny class's magazine may
	// hold; MagBytes is the byte budget that lowers it for larger classes.
	MagBlocks, MagBytes int
	// MidBlocks and MidBytes are the same two limits for classes above 1 KiB.
	MidBlocks, MidBytes int
	// GrowBytes is the byte budget that takes the place of MagBytes and MidBytes for
	// magazines that run full and empty in turns.
	GrowBytes int
	// MagLargeBytes is the same limit for spans; one block has room in any case.
	MagLargeBytes int
	// Refill is the number of blocks a magazine miss moves from the leased
	// slab, at most; up to four times as many where the magazine has grown.
	Refill int
	// EmptyReuse lets acquire take an EMPTY slab from another class (stage 2)
	// and prefer those of its own class as a stage of their own (stage 0.5).
	EmptyReuse bool
	// EmptyFirst asks for stage 0.5 before stage 1.
	EmptyFirst bool
	// EmptyScanLimit bounds the superslabs looked at for EMPTY slabs.
	EmptyScanLimit int
	// MinKeep is the number of partly free slabs that a class keeps before
	// another class may take its EMPTY ones.
	MinKeep int
	// CommitMin and CommitMax bound the commit step, in bytes: it starts at
	// the first and doubles with each commit until it reaches the second.
	CommitMin, CommitMax int
	// RegionBytes is the address range to reserve; read once, at the first
	// slow path.
	RegionBytes int
	// SharedSlots is the number of shared slots of each span class in use.
	SharedSlots int
	// HugeCacheBytes bounds the whale cache.
	HugeCacheBytes int
	// KeepAlways switches the scavenger off.
	KeepAlways bool
	// DecayMs is the scavenger's default window in milliseconds.
	DecayMs int
	// HugePages is what to advise the operating system: never, auto or always.
	HugePages HugePages
	// MemorySoft and MemoryHard are the memory limits at start, in bytes; 0 is
	// none.
	MemorySoft, MemoryHard int
	// Timing counts the cycles of slow paths by phase.
	Timing bool
	// Guard is N when one in N blocks is to lie between guard pages, 0 for none.
	Guard int
	// Harden adds canaries, poison and a quarantine to every block.
	Harden bool
	// FastLane selects the non-preemptible fast section; off, every call pins
	// its P.
	FastLane bool
	// Trace is the path of a file to write a trace of all calls into, or "".
	Trace string
	// Mode is the preset these values started from.
	Mode string
}

// HugePages is a value of HAKMEM_THP.
type HugePages uint8

const (
	HugeNever HugePages = iota
	HugeAuto
	HugeAlways
)

// Kind says how a gate's value is read.
type Kind uint8

const (
	Switch Kind = iota // 0 | 1 | off | on | no | yes | false | true
	Number             // a decimal integer within [Min, Max]
	Choice             // one of a list of words
	Text               // anything
	Rate               // 1/N, or 0
)

// Gate is one row of the gate table.
type Gate struct {
	Name    string // environment variable
	Meaning string // one line
	Default string // value when neither the variable, an Option nor a mode sets it
	Since   string // version that introduced it
	Kind    Kind
	Min     int64 // Number: least value accepted
	Max     int64 // Number: greatest value accepted
	Choices []string

	get func(*Snapshot) int64
	set func(*Snapshot, int64)

	text func(*Snapshot) *string // Text: the field
}

func number(name, meaning, def string, min, max int64, field func(*Snapshot) *int) Gate {
	return Gate{Name: name, Meaning: meaning, Default: def, Since: "0.1", Kind: Number, Min: min, Max: max,
		get: func(s *Snapshot) int64 { return int64(*field(s)) },
		set: func(s *Snapshot, v int64) { *field(s) = int(v) }}
}

func onOff(name, meaning, def string, field func(*Snapshot) *bool) Gate {
	return Gate{Name: name, Meaning: meaning, Default: def, Since: "0.1", Kind: Switch,
		get: func(s *Snapshot) int64 {
			if *field(s) {
				return 1
			}
			return 0
		},
		set: func(s *Snapshot, v int64) { *field(s) = v != 0 }}
}

func choice(name, meaning, def string, choices []string, get func(*Snapshot) int64, set func(*Snapshot, int64)) Gate {
	return Gate{Name: name, Meaning: meaning, Default: def, Since: "0.1", Kind: Choice, Choices: choices, get: get, set: set}
}

// Modes are the presets of HAKMEM_MODE, in the original's order.
var Modes = []string{"minimal", "fast", "balanced", "learning", "research"}

// modeNotes says of a mode what it does not do yet.
var modeNotes = map[string]string{
	"learning": "the learner is not built yet: learning behaves as balanced",
	"research": "the research boxes are not built yet: research behaves as balanced",
}

// presets gives, for each mode, the gates that differ from the defaults.
var presets = map[string]map[string]int64{
	// minimal: the least memory held by caches.
	"minimal": {"HAKMEM_FRONT_V2_CAP": 16, "HAKMEM_MAG_BYTES": 4 << 10, "HAKMEM_CAP_MID": 4, "HAKMEM_MAG_MID_BYTES": 32 << 10, "HAKMEM_MAG_GROW_BYTES": 0, "HAKMEM_REFILL": 16},
	// fast: the most blocks cached, larger commits.
	"fast":     {"HAKMEM_MAG_BYTES": 128 << 10, "HAKMEM_MAG_MID_BYTES": 1 << 20, "HAKMEM_MAG_GROW_BYTES": 1 << 20, "HAKMEM_SS_COMMIT_MIN": 64 << 20},
	"balanced": {},
	"learning": {},
	"research": {},
}

// gates is the one table of tunables. The numbers' origins are in
// docs/ledger.md under the gate's name.
var gates = []Gate{
	{Name: "HAKMEM_MODE", Meaning: "preset over the gates below", Default: "balanced", Since: "0.1", Kind: Choice, Choices: Modes},
	{Name: "HAKMEM_TRACE", Meaning: "file to write a trace of every call into (see StartTrace), from the first call on", Since: "0.1", Kind: Text,
		text: func(s *Snapshot) *string { return &s.Trace }},
	onOff("HAKMEM_FRONT_FASTLANE", "use the non-preemptible fast section; off: pin the P in every call", "1", func(s *Snapshot) *bool { return &s.FastLane }),
	number("HAKMEM_FRONT_V2_CAP", "most blocks in a magazine of a class up to 1 KiB", "1023", 2, 1023, func(s *Snapshot) *int { return &s.MagBlocks }),
	number("HAKMEM_MAG_BYTES", "byte budget of a magazine of a class up to 1 KiB", "65536", 0, 1<<30, func(s *Snapshot) *int { return &s.MagBytes }),
	number("HAKMEM_CAP_MID", "most blocks in a magazine of a class above 1 KiB", "127", 2, 127, func(s *Snapshot) *int { return &s.MidBlocks }),
	number("HAKMEM_MAG_MID_BYTES", "byte budget of a magazine of a class above 1 KiB", "131072", 0, 1<<30, func(s *Snapshot) *int { return &s.MidBytes }),
	number("HAKMEM_MAG_GROW_BYTES", "byte budget to which a magazine of a class up to 32 KiB grows that runs full and empty in turns", "524288", 0, 1<<30, func(s *Snapshot) *int { return &s.GrowBytes }),
	number("HAKMEM_MAG_WARM_BYTES", "byte budget of a magazine of a class above 32 KiB", "2097152", 0, 1<<30, func(s *Snapshot) *int { return &s.MagLargeBytes }),
	number("HAKMEM_WARM_SLOTS", "shared slots of each class above 32 KiB, for what overflows the magazines", "16", 0, 16, func(s *Snapshot) *int { return &s.SharedSlots }),
	number("HAKMEM_WHALE_BYTES", "byte limit of the cache of freed blocks above 2 MiB", "268435456", 0, 1<<40, func(s *Snapshot) *int { return &s.HugeCacheBytes }),
	choice("HAKMEM_KEEP", "free memory: give it back by the scavenger's judgement (auto), or only by Trim and at memory limits (always)", "auto", []string{"auto", "always"},
		func(s *Snapshot) int64 {
			if s.KeepAlways {
				return 1
			}
			return 0
		},
		func(s *Snapshot, v int64) { s.KeepAlways = v == 1 }),
	number("HAKMEM_DECAY_MS", "the scavenger's default window in milliseconds: it keeps what the peak of that time needed", "2200", 1, 1<<24, func(s *Snapshot) *int { return &s.DecayMs }),
	choice("HAKMEM_THP", "transparent huge pages: ask the system for none, leave it to the system (auto), or ask for all", "auto", []string{"never", "auto", "always"},
		func(s *Snapshot) int64 { return int64(s.HugePages) },
		func(s *Snapshot, v int64) { s.HugePages = HugePages(v) }),
	number("HAKMEM_MEMORY_SOFT", "bytes of memory near which the scavenger keeps nothing; 0: no limit (see SetMemoryLimit)", "0", 0, 1<<40, func(s *Snapshot) *int { return &s.MemorySoft }),
	number("HAKMEM_MEMORY_HARD", "bytes of memory beyond which allocations return nil; 0: no limit", "0", 0, 1<<40, func(s *Snapshot) *int { return &s.MemoryHard }),
	{Name: "HAKMEM_GUARD", Meaning: "put one in N blocks between guard pages: 1/N, such as 1/5000; 0: none (see CatchFaults)", Default: "0", Since: "0.1", Kind: Rate, Min: 0, Max: 1 << 40,
		get: func(s *Snapshot) int64 { return int64(s.Guard) }, set: func(s *Snapshot, v int64) { s.Guard = int(v) }},
	onOff("HAKMEM_HARDEN", "find writes behind a block and after its free: canaries, poison, quarantine, random order; no fast section", "0", func(s *Snapshot) *bool { return &s.Harden }),
	onOff("HAKMEM_TIMING", "count the cycles of slow paths by phase (see ReadStats)", "0", func(s *Snapshot) *bool { return &s.Timing }),
	number("HAKMEM_REFILL", "most blocks moved into a magazine by one miss; up to four times as many where it has grown", "64", 1, 127, func(s *Snapshot) *int { return &s.Refill }),
	onOff("HAKMEM_SS_EMPTY_REUSE", "reuse EMPTY slabs as a stage of their own and across classes", "1", func(s *Snapshot) *bool { return &s.EmptyReuse }),
	onOff("HAKMEM_SS_EMPTY_FIRST", "try EMPTY slabs of the class (stage 0.5) before partly free ones (stage 1)", "0", func(s *Snapshot) *bool { return &s.EmptyFirst }),
	number("HAKMEM_SS_EMPTY_SCAN_LIMIT", "superslabs looked at for EMPTY slabs in one search", "16", 1, 1<<20, func(s *Snapshot) *int { return &s.EmptyScanLimit }),
	number("HAKMEM_SS_MIN_KEEP", "partly free slabs that a class keeps from other classes", "0", 0, 1<<20, func(s *Snapshot) *int { return &s.MinKeep }),
	number("HAKMEM_SS_COMMIT_MIN", "first commit step in bytes", "2097152", 2<<20, 1<<32, func(s *Snapshot) *int { return &s.CommitMin }),
	number("HAKMEM_SS_COMMIT_MAX", "largest commit step in bytes", "67108864", 2<<20, 1<<32, func(s *Snapshot) *int { return &s.CommitMax }),
	number("HAKMEM_REGION_BYTES", "address range to reserve, in bytes", strconv.FormatInt(defaultRegion, 10), 256<<20, 1<<40, func(s *Snapshot) *int { return &s.RegionBytes }),
}

// Gates returns the table of gates in its documented order. The caller must
// not change it.
func Gates() []Gate { return gates }

// Value returns gate g's value in snapshot s, as the environment would spell it.
func (g *Gate) Value(s *Snapshot) string {
	switch {
	case g.Kind == Text:
		return *g.text(s)
	case g.Kind == Choice && g.get == nil:
		return s.Mode
	case g.Kind == Choice:
		return g.Choices[g.get(s)]
	case g.Kind == Rate && g.get(s) != 0:
		return "1/" + strconv.FormatInt(g.get(s), 10)
	}
	return strconv.FormatInt(g.get(s), 10)
}

// GateError is a gate whose value could not be used. The default (or the
// mode's value) is in force instead.
type GateError struct{ Name, Value, Remedy string }

func (e *GateError) Error() string {
	return "hakmem: gate " + e.Name + ": cannot use the value " + strconv.Quote(e.Value) + ": " + e.Remedy
}

// parse reads one value as the gate spells it.
func (g *Gate) parse(v string) (int64, *GateError) {
	bad := func(remedy string) (int64, *GateError) { return 0, &GateError{g.Name, v, remedy} }
	if g.Kind == Switch {
		switch strings.ToLower(v) {
		case "1", "on", "yes", "true":
			return 1, nil
		case "0", "off", "no", "false":
			return 0, nil
		}
		return bad("use 0, 1, off or on")
	}
	if g.Kind == Choice {
		if i := slices.Index(g.Choices, strings.ToLower(v)); i >= 0 {
			return int64(i), nil
		}
		return bad("use one of " + strings.Join(g.Choices, ", "))
	}
	if g.Kind == Rate {
		text, ratio := strings.CutPrefix(v, "1/")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > g.Max || ratio && n == 0 || !ratio && n > 1 {
			return bad("use 1/N with a whole number N, 1 for every block, or 0 for none")
		}
		return n, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < g.Min || n > g.Max {
		return bad("use a whole number from " + strconv.FormatInt(g.Min, 10) + " to " + strconv.FormatInt(g.Max, 10))
	}
	return n, nil
}

// Build makes a snapshot from a lookup of gate values, as os.LookupEnv is one.
// Malformed values are reported and replaced by the mode's value.
func Build(lookup func(string) (string, bool)) (*Snapshot, []error) {
	s := &Snapshot{Mode: "balanced"}
	var errs []error
	if m, ok := lookup("HAKMEM_MODE"); ok && m != "" {
		if _, known := presets[strings.ToLower(m)]; known {
			s.Mode = strings.ToLower(m)
		} else {
			errs = append(errs, &GateError{"HAKMEM_MODE", m, "use one of " + strings.Join(Modes, ", ")})
		}
	}
	for i := range gates {
		g := &gates[i]
		switch {
		case g.Kind == Choice && g.set == nil: // the mode
			continue
		case g.Kind == Text:
			if v, ok := lookup(g.Name); ok {
				*g.text(s) = v
			}
			continue
		}
		def, err := g.parse(g.Default)
		if err != nil {
			panic(err) // the table itself is wrong
		}
		if v, ok := presets[s.Mode][g.Name]; ok {
			def = v
		}
		g.set(s, def)
		if v, ok := lookup(g.Name); ok && v != "" {
			n, err := g.parse(v)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			g.set(s, n)
		}
	}
	if s.CommitMax < s.CommitMin {
		if v, _ := lookup("HAKMEM_SS_COMMIT_MAX"); v != "" { // else the default only gives way
			errs = append(errs, &GateError{"HAKMEM_SS_COMMIT_MAX", v, "use a value not below HAKMEM_SS_COMMIT_MIN"})
		}
		s.CommitMax = s.CommitMin
	}
	if s.MemoryHard != 0 && s.MemoryHard < 2<<20 {
		errs = append(errs, &GateError{"HAKMEM_MEMORY_HARD", strconv.Itoa(s.MemoryHard), "use 0 for no limit, or at least 2097152"})
		s.MemoryHard = 0
	}
	if s.MemoryHard != 0 && s.MemorySoft > s.MemoryHard {
		errs = append(errs, &GateError{"HAKMEM_MEMORY_SOFT", strconv.Itoa(s.MemorySoft), "use a value not above HAKMEM_MEMORY_HARD"})
		s.MemorySoft = s.MemoryHard
	}
	return s, errs
}

// Load is Build over the process's environment, before which set goes. It also
// reports the variables that are no gates.
func Load(set map[string]string) (*Snapshot, []error) {
	s, errs := Build(func(name string) (string, bool) {
		if v, ok := set[name]; ok {
			return v, true
		}
		return os.LookupEnv(name)
	})
	return s, append(errs, unknown(os.Environ())...)
}

// unknown reports the variables of the environment that look like gates and are
// none: a gate spelled wrongly would be off without a word.
func unknown(environ []string) (errs []error) {
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		// HAKMEM_TEST_ and HAKMEM_PROOF_ are for hakmem's own tests.
		if !strings.HasPrefix(name, "HAKMEM_") || strings.HasPrefix(name, "HAKMEM_TEST_") || strings.HasPrefix(name, "HAKMEM_PROOF_") {
			continue
		}
		if !slices.ContainsFunc(gates, func(g Gate) bool { return g.Name == name }) {
			errs = append(errs, &GateError{name, value, "there is no such gate; `hakmem env` lists them"})
		}
	}
	return errs
}

// ModeNote says what mode m does not do yet, or "".
func ModeNote(m string) string { return modeNotes[m] }

var (
	current atomic.Pointer[Snapshot]
	mu      sync.Mutex // guards the first load and Set
	loadErr []error    // what Build reported for the current snapshot
)

// Current returns the snapshot in force, reading the environment on first use.
// Safe from any goroutine; the result never changes.
func Current() *Snapshot {
	if s := current.Load(); s != nil {
		return s
	}
	mu.Lock()
	defer mu.Unlock()
	if s := current.Load(); s != nil {
		return s
	}
	s, errs := Load(nil)
	loadErr = errs
	current.Store(s)
	return s
}

// Set publishes s, built by Build with the given errors, in place of the
// current snapshot.
func Set(s *Snapshot, errs []error) {
	mu.Lock()
	defer mu.Unlock()
	loadErr = errs
	current.Store(s)
}

// Errors returns what was malformed in the values behind the current snapshot.
// The caller may append to the slice.
func Errors() []error {
	Current()
	mu.Lock()
	defer mu.Unlock()
	return slices.Clip(loadErr)
}
