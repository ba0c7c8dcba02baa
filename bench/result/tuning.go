package result

// The JSON of `tune eval`: what policies that keep and return free memory cost.

// TuningVersion is the version of Tuning. It changes when older programs could not read what is
// written.
const TuningVersion = 1

// Tuning is what `tune eval --json` prints. Either Simulated or Real is there.
type Tuning struct {
	Version int      `json:"tuning"` // TuningVersion
	Command []string `json:"command"`
	Started string   `json:"started"` // RFC 3339
	Seconds float64  `json:"seconds"` // that the whole command took
	Machine Machine  `json:"machine"`
	// Programs says which programs were simulated, in words.
	Programs  string       `json:"programs,omitempty"`
	Simulated []Simulation `json:"simulated,omitempty"` // by price
	Real      *RealTuning  `json:"real,omitempty"`
}

// Simulation is what programs cost in the simulator at one price of memory.
type Simulation struct {
	Price     float64 `json:"price"`              // CPU seconds for a GiB held for a second
	BreakEven float64 `json:"break_even_seconds"` // what it costs to keep a page so long is what a return and a fault cost
	// Kinds are the kinds of programs, or the traces.
	Kinds    []string          `json:"kinds"`
	Policies []SimulatedPolicy `json:"policies"`
	// Arms are the hold times in seconds that Plays counts.
	Arms       []float64  `json:"arms_seconds"`
	Recoveries []Recovery `json:"recoveries,omitempty"`
}

// SimulatedPolicy is what a policy costs.
type SimulatedPolicy struct {
	Name string `json:"name"`
	// Mean is the geometric mean of Ratio, the cost over the optimum's by kind. LookedAt is the same for
	// programs that were looked at when the learner was made; 0 if there are none.
	Mean     float64   `json:"mean"`
	LookedAt float64   `json:"looked_at_mean,omitempty"`
	Ratio    []float64 `json:"ratios"`
	// OverStatic and OverBreakEven are the most that it costs in one program, over the best fixed hold time in
	// hindsight and over break-even. After and Flip are the cost over the optimum with two adversaries.
	OverStatic    *WorstProgram `json:"worst_over_static,omitempty"`
	OverBreakEven *WorstProgram `json:"worst_over_break_even,omitempty"`
	After         float64       `json:"adversary_after,omitempty"`
	Flip          float64       `json:"adversary_flip,omitempty"`
	// Regret is what was paid over the optimum, in CPU seconds and as the mean of all programs, by times
	// that divide the programs evenly. The last one is the programs' end.
	Regret []float64 `json:"regret_cpu_seconds,omitempty"`
	// Plays is how often it used a hold time of up to Arms[i] and longer than the one before, as a share of
	// the waits; the last one is for longer times.
	Plays []float64 `json:"plays,omitempty"`
}

// WorstProgram is the program in which a ratio is largest.
type WorstProgram struct {
	Ratio float64 `json:"ratio"`
	Kind  string  `json:"kind"`
	Seed  uint64  `json:"seed"`
}

// Recovery is how long policies take to find the best hold time after a change of regime.
type Recovery struct {
	Kind string  `json:"kind"`
	From float64 `json:"from_seconds"` // between two peaks before the change
	To   float64 `json:"to_seconds"`   // and after it
	Gaps int     `json:"gaps"`         // gaps between peaks that the new regime has
	// Needed is how many of them pass, on average, until a policy's cost is within 10 % of the best arm's for
	// the regime, by policy; Gaps if that never is so.
	Needed map[string]float64 `json:"needed"`
}

// RealTuning is what demand cost that was made over the real allocator.
type RealTuning struct {
	Seconds  float64     `json:"run_seconds"` // of each run
	Baseline string      `json:"baseline"`    // the arm that ratios relate to
	Patterns []string    `json:"patterns"`
	Seeds    []uint64    `json:"seeds"`
	Prices   []RealPrice `json:"prices"`
	Runs     []RealRun   `json:"runs"`
}

// RealPrice is what the arms cost at one price of memory.
type RealPrice struct {
	Price float64   `json:"price"` // CPU seconds for a GiB held for a second
	Arms  []RealArm `json:"arms"`
}

// RealArm is what an arm, a value of HAKMEM_KEEP, costs. Ratios are over the baseline's; 0 stands for one
// that is not known, because one of the two cost nothing that could be measured.
type RealArm struct {
	Name  string  `json:"name"`
	Cost  float64 `json:"cost"` // geometric mean of the ratios of all patterns
	Worst float64 `json:"worst_cost"`
	On    string  `json:"worst_on"` // the pattern that has it
	// Memory is the same for the memory held beyond what is alive.
	Memory      float64 `json:"memory"`
	WorstMemory float64 `json:"worst_memory"`
	MemoryOn    string  `json:"worst_memory_on"`
	// Spread is by how much its two series of runs differ in cost, as a share, in the mean of all patterns, and
	// MostSpread the most of all patterns: the noise.
	Spread     float64       `json:"spread"`
	MostSpread float64       `json:"most_spread"`
	Patterns   []RealPattern `json:"patterns"`
}

// RealPattern is what an arm costs under one pattern of demand, as the mean of its runs.
type RealPattern struct {
	Pattern string  `json:"pattern"`
	CPU     float64 `json:"cpu_seconds"` // over that of HAKMEM_KEEP=always
	Memory  float64 `json:"gib_seconds"` // held beyond what is alive
	// Cost is CPU, where it is above 0, and the price of Memory, in CPU seconds.
	Cost        float64 `json:"cost"`
	CostRatio   float64 `json:"cost_ratio"`
	MemoryRatio float64 `json:"memory_ratio"`
	Spread      float64 `json:"spread"`
	Faults      float64 `json:"faults"`
}

// RealRun is one run of a child process.
type RealRun struct {
	Arm     string  `json:"arm"`
	Price   float64 `json:"price,omitempty"` // 0: the arm does not depend on it
	Pattern string  `json:"pattern"`
	Seed    uint64  `json:"seed"`
	Series  int     `json:"series"` // 1 or 2
	RealFigures
}

// RealFigures are what a child process measures of itself.
type RealFigures struct {
	CPU      float64 `json:"cpu_seconds"`       // user and system
	Excess   float64 `json:"gib_seconds"`       // resident beyond what is alive and what the idle process has
	Live     float64 `json:"live_gib_seconds"`  // alive
	Faults   uint64  `json:"faults"`            // page faults
	Returned uint64  `json:"returned_bytes"`    // by the scavenger
	Hold     float64 `json:"hold_seconds"`      // mean hold time at the end
	Late     float64 `json:"late_seconds"`      // the most by which an operation came after its time
	Ops      int     `json:"operations"`        // allocations and frees
	Digest   string  `json:"operations_digest"` // of the operations and their times: equal for equal demand
	Tags     string  `json:"build_tags,omitempty"`
}
