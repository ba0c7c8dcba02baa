package hakmem

import (
	"errors"
	"maps"
	"strconv"
	"sync"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/policy"
)

// Toggle is an option that is on, off, or left to the environment or the mode.
type Toggle uint8

// The values of a Toggle.
const (
	Default Toggle = iota
	On
	Off
)

// Options has every gate as a field but HAKMEM_TRACE, for which there is
// StartTrace. A zero field leaves the gate to its
// environment variable, else to the mode, else to its default; a number of -1 sets
// the gate to 0. What each gate does, and its default, is printed by "hakmem env".
// Limits that SetMemoryLimit has set, before Configure or after, go before
// MemorySoft and MemoryHard.
type Options struct {
	Mode string // HAKMEM_MODE: minimal, fast, balanced, learning or research

	FrontFastLane    Toggle // HAKMEM_FRONT_FASTLANE
	FrontV2Cap       int    // HAKMEM_FRONT_V2_CAP: blocks
	MagBytes         int    // HAKMEM_MAG_BYTES
	CapMid           int    // HAKMEM_CAP_MID: blocks
	MagMidBytes      int    // HAKMEM_MAG_MID_BYTES
	MagGrowBytes     int    // HAKMEM_MAG_GROW_BYTES
	MagWarmBytes     int    // HAKMEM_MAG_WARM_BYTES
	WarmSlots        int    // HAKMEM_WARM_SLOTS
	WhaleBytes       int    // HAKMEM_WHALE_BYTES
	Keep             string // HAKMEM_KEEP: auto or always
	DecayMs          int    // HAKMEM_DECAY_MS: milliseconds
	THP              string // HAKMEM_THP: never, auto or always
	MemorySoft       int    // HAKMEM_MEMORY_SOFT: bytes
	MemoryHard       int    // HAKMEM_MEMORY_HARD: bytes
	Guard            int    // HAKMEM_GUARD: N of 1/N
	Harden           Toggle // HAKMEM_HARDEN
	Timing           Toggle // HAKMEM_TIMING
	Refill           int    // HAKMEM_REFILL: blocks
	SSEmptyReuse     Toggle // HAKMEM_SS_EMPTY_REUSE
	SSEmptyFirst     Toggle // HAKMEM_SS_EMPTY_FIRST
	SSEmptyScanLimit int    // HAKMEM_SS_EMPTY_SCAN_LIMIT: superslabs
	SSMinKeep        int    // HAKMEM_SS_MIN_KEEP: slabs
	SSCommitMin      int    // HAKMEM_SS_COMMIT_MIN: bytes
	SSCommitMax      int    // HAKMEM_SS_COMMIT_MAX: bytes
	RegionBytes      int    // HAKMEM_REGION_BYTES
}

// values returns the gates that o sets, spelled as the environment would.
func (o *Options) values() map[string]string {
	v := map[string]string{}
	number := func(name string, n int) {
		switch n {
		case 0:
		case -1:
			v[name] = "0"
		default:
			v[name] = strconv.Itoa(n)
		}
	}
	toggle := func(name string, t Toggle) {
		switch t {
		case Default:
		case On:
			v[name] = "1"
		case Off:
			v[name] = "0"
		default:
			v[name] = "Toggle(" + strconv.Itoa(int(t)) + ")" // refused by the gate
		}
	}
	for name, word := range map[string]string{"HAKMEM_MODE": o.Mode, "HAKMEM_KEEP": o.Keep, "HAKMEM_THP": o.THP} {
		if word != "" {
			v[name] = word
		}
	}
	toggle("HAKMEM_FRONT_FASTLANE", o.FrontFastLane)
	number("HAKMEM_FRONT_V2_CAP", o.FrontV2Cap)
	number("HAKMEM_MAG_BYTES", o.MagBytes)
	number("HAKMEM_CAP_MID", o.CapMid)
	number("HAKMEM_MAG_MID_BYTES", o.MagMidBytes)
	number("HAKMEM_MAG_GROW_BYTES", o.MagGrowBytes)
	number("HAKMEM_MAG_WARM_BYTES", o.MagWarmBytes)
	number("HAKMEM_WARM_SLOTS", o.WarmSlots)
	number("HAKMEM_WHALE_BYTES", o.WhaleBytes)
	number("HAKMEM_DECAY_MS", o.DecayMs)
	number("HAKMEM_MEMORY_SOFT", o.MemorySoft)
	number("HAKMEM_MEMORY_HARD", o.MemoryHard)
	if number("HAKMEM_GUARD", o.Guard); o.Guard > 0 {
		v["HAKMEM_GUARD"] = "1/" + strconv.Itoa(o.Guard)
	}
	toggle("HAKMEM_HARDEN", o.Harden)
	toggle("HAKMEM_TIMING", o.Timing)
	number("HAKMEM_REFILL", o.Refill)
	toggle("HAKMEM_SS_EMPTY_REUSE", o.SSEmptyReuse)
	toggle("HAKMEM_SS_EMPTY_FIRST", o.SSEmptyFirst)
	number("HAKMEM_SS_EMPTY_SCAN_LIMIT", o.SSEmptyScanLimit)
	number("HAKMEM_SS_MIN_KEEP", o.SSMinKeep)
	number("HAKMEM_SS_COMMIT_MIN", o.SSCommitMin)
	number("HAKMEM_SS_COMMIT_MAX", o.SSCommitMax)
	number("HAKMEM_REGION_BYTES", o.RegionBytes)
	return v
}

// ErrConfigured is what Configure returns once hakmem has been used.
var ErrConfigured = errors.New("hakmem: Configure: the allocator is in use already: call it before the first allocation")

// configured has the gates that Configure set so far, spelled as the environment
// would.
var configured struct {
	sync.Mutex
	set map[string]string
}

// Configure sets gates from the program: o's fields win over the environment, and
// over those of an earlier Configure, whose other fields stay in force.
// It must be called before the first allocation; later it returns
// ErrConfigured. A value that a gate cannot use is an error that names it, and
// then nothing has changed. Any goroutine.
func Configure(o Options) error {
	configured.Lock()
	defer configured.Unlock()
	set := maps.Clone(configured.set)
	if set == nil {
		set = map[string]string{}
	}
	maps.Copy(set, o.values())
	s, errs := policy.Load(set)
	var bad []error
	for _, err := range errs {
		// Malformed variables of the environment are Err's to tell.
		var g *policy.GateError
		if errors.As(err, &g) {
			if _, ours := set[g.Name]; ours {
				bad = append(bad, err)
			}
		}
	}
	if len(bad) > 0 {
		return errors.Join(bad...)
	}
	if !engine.Configure(func() { policy.Set(s, errs); chooseRoad() }) {
		return ErrConfigured
	}
	configured.set = set
	return nil
}
