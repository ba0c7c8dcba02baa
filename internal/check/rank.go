package check

// This file holds the order of locks: their ranks, and under which others each may be taken. The
// table never changes.

// Rank is a lock's place in the order of locks. A goroutine takes locks in the order of their
// ranks, and never two locks of the same rank.
type Rank uint8

// The locks, outermost first. The ranks alone allow too much; the rest of the rules is in order.
const (
	configured Rank = iota
	totals
	trace
	recorders
	records
	abandoned
	watch
	scavenger
	moving
	drain
	openHeaps
	guard
	frontPool
	region
	shard
	list
	lane
	sites
	profiled
	survived
	postponed
	policy
	origin
	numRanks
)

// order is the partial order of the locks. A lock may be taken under the locks that its entry lists
// as under, under the locks under which one of those may be taken, and so on. No other lock may be
// held. (The Go runtime keeps its lockPartialOrder in the same way.)
//
// exclusive lists the locks under which the lock may be taken as well in exclusive use (Exclusive).
var order = [numRanks]struct {
	name, protects   string
	under, exclusive []Rank
}{
	// Locks of the public package. The first two are taken when no other lock is held.
	configured: {name: "configured", protects: "the settings that Configure has set (options.go)"},
	totals:     {name: "totals", protects: "where ReadStats collects (stats.go)"},
	trace:      {name: "trace.mu", protects: "the trace and the order of its lines; its writer may block (trace.go)"},

	// Locks of code that watches calls.
	recorders: {name: "recorders", protects: "the number of those who record stacks"},
	records: {name: "records", protects: "the stacks of live blocks; a free and the end of its record are one step",
		under: []Rank{trace, recorders}},
	abandoned: {name: "abandoned", protects: "the fronts of Heaps that nobody can reach"},
	watch: {name: "watchMu", protects: "the change of watched, one at a time",
		under: []Rank{records}},

	// Locks of code that moves memory. drainMu is held over a stop of the world.
	scavenger: {name: "scavenger.mu", protects: "one tick, Trim or walk at a time, while it returns memory; waited for a bounded time",
		under: []Rank{watch, abandoned}},
	moving: {name: "scavenger.moving", protects: "blocks on their way from a front or a cache, from statistics",
		under: []Rank{scavenger, totals}},
	drain: {name: "drainMu", protects: "one drain at a time, with its stop of the world",
		under: []Rank{moving}},

	openHeaps: {name: "openHeaps", protects: "the list of open Heaps; a Heap in it stays open meanwhile",
		under: []Rank{drain}},

	// The locks taken last: no two of them are held together. No lock at all is taken under a
	// list's lock, nor under a shard's, with which a goroutine is entered. CheckInvariants is the
	// exception: it holds the first three of these locks, and under them one of the others at a
	// time.
	guard: {name: "guard", protects: "the guarded blocks",
		under: []Rank{drain}},
	frontPool: {name: "frontPool.mu", protects: "the spare fronts",
		under: []Rank{drain}, exclusive: []Rank{guard}},
	region: {name: "region.mu", protects: "pages, large blocks of their own, and limits",
		under: []Rank{drain, configured}, exclusive: []Rank{guard, frontPool}},
	shard: {name: "shard.mu", protects: "a front that no P has",
		under: []Rank{drain}, exclusive: []Rank{guard, frontPool, region}},
	list: {name: "listState.mu", protects: "the state of a list's slabs",
		under: []Rank{drain}, exclusive: []Rank{guard, frontPool, region}},
	lane: {name: "lane.mu", protects: "the slab that a long lane leases",
		under: []Rank{drain}, exclusive: []Rank{guard, frontPool, region}},
	sites: {name: "sites.mu", protects: "the names of sites",
		under: []Rank{drain}, exclusive: []Rank{guard, frontPool, region}},

	// Below all of them, except the two under which no lock is taken.
	profiled: {name: "profiled", protects: "the samples of the profile, and their buckets",
		under: []Rank{guard}},
	survived: {name: "survived", protects: "errors that did not stop hakmem",
		under: []Rank{guard, frontPool, region, sites}},
	postponed: {name: "postponed", protects: "misuse that is still to be reported",
		under: []Rank{guard, frontPool, region, sites}},
	policy: {name: "policy's mu", protects: "the first load of the settings, Set and SetTuning",
		under: []Rank{guard, frontPool, region, sites}},
	origin: {name: "telemetry's origin", protects: "the moment from which the cycle counter is measured",
		under: []Rank{guard, frontPool, region, sites}},
}

// String returns the lock's name as it is in docs/concurrency.md.
func (r Rank) String() string { return order[r].name }

// Each of these types names one lock, or one kind of lock of which a goroutine holds one at a time:
// Mutex[Region] is the region's. What each lock protects is in order.
type (
	Configured struct{}
	Totals     struct{}
	Trace      struct{}
	Recorders  struct{}
	Records    struct{}
	Abandoned  struct{}
	Watch      struct{}
	Scavenger  struct{}
	Moving     struct{}
	Drain      struct{}
	OpenHeaps  struct{}
	Guard      struct{}
	FrontPool  struct{}
	Region     struct{}
	Shard      struct{}
	List       struct{}
	Lane       struct{}
	Sites      struct{}
	Profiled   struct{}
	Survived   struct{}
	Postponed  struct{}
	Policy     struct{}
	Origin     struct{}
)

func (Configured) rank() Rank { return configured }
func (Totals) rank() Rank     { return totals }
func (Trace) rank() Rank      { return trace }
func (Recorders) rank() Rank  { return recorders }
func (Records) rank() Rank    { return records }
func (Abandoned) rank() Rank  { return abandoned }
func (Watch) rank() Rank      { return watch }
func (Scavenger) rank() Rank  { return scavenger }
func (Moving) rank() Rank     { return moving }
func (Drain) rank() Rank      { return drain }
func (OpenHeaps) rank() Rank  { return openHeaps }
func (Guard) rank() Rank      { return guard }
func (FrontPool) rank() Rank  { return frontPool }
func (Region) rank() Rank     { return region }
func (Shard) rank() Rank      { return shard }
func (List) rank() Rank       { return list }
func (Lane) rank() Rank       { return lane }
func (Sites) rank() Rank      { return sites }
func (Profiled) rank() Rank   { return profiled }
func (Survived) rank() Rank   { return survived }
func (Postponed) rank() Rank  { return postponed }
func (Policy) rank() Rank     { return policy }
func (Origin) rank() Rank     { return origin }
