package bench

import (
	"runtime"
	"slices"
)

// unknown stands for what the system does not tell.
const unknown = "n/a"

// processUsage is a picture of this process; 0 stands for not known.
type processUsage struct {
	peak, rss uint64 // bytes resident: most so far, and now
	faults    uint64 // minor page faults so far
}

// Report is the outcome of a comparison, as the commands print it with --json.
type Report struct {
	Workload string         `json:"workload"`
	Params   map[string]any `json:"params"`
	Machine  Machine        `json:"machine"`
	Results  []Result       `json:"results"`
	Absent   []Absent       `json:"absent"`
}

// Result is the outcome for one allocator: medians over its runs.
type Result struct {
	Allocator   string  `json:"allocator"`
	Version     string  `json:"version"`
	OpsPerS     float64 `json:"ops_per_s"`
	NsPerOp     float64 `json:"ns_per_op"`
	NetNsPerOp  float64 `json:"net_ns_per_op"` // less the empty loop of the same program; 0 if that could not run
	PeakRSS     uint64  `json:"peak_rss_bytes"`
	MinorFaults uint64  `json:"minor_faults"`
	Runs        []Run   `json:"runs"`
}

// Absent is an allocator that could not be measured, and why.
type Absent struct {
	Allocator string `json:"allocator"`
	Reason    string `json:"reason"`
}

// Machine describes where a report was made.
type Machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	GOMAXPROCS int    `json:"gomaxprocs"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Kernel     string `json:"kernel"`
	HugePages  string `json:"transparent_hugepages"`
	Go         string `json:"go"`
}

// ThisMachine describes the machine and the Go runtime of the caller.
func ThisMachine() Machine {
	return Machine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: kernel(), HugePages: hugePages(), Go: runtime.Version(),
	}
}

// Median returns the middle of values, the mean of the middle two for an even
// number of them, and 0 for none.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// LayoutTimes returns the median time of an operation in each code layout
// among the runs.
func LayoutTimes(runs []Run) map[int]float64 {
	times := map[int][]float64{}
	for _, r := range runs {
		times[r.Layout] = append(times[r.Layout], r.NsPerOp)
	}
	medians := map[int]float64{}
	for layout, t := range times {
		medians[layout] = Median(t)
	}
	return medians
}

// Summarize makes the result of one allocator from its runs and from those of
// the empty loop of the same program. Times are the median over the code
// layouts of the median over each layout's runs; the loop is subtracted layout
// by layout.
func Summarize(name string, runs, empty []Run) Result {
	r := Result{Allocator: name, Runs: runs}
	if len(runs) == 0 {
		return r
	}
	r.Version = runs[0].Version
	loop := LayoutTimes(empty)
	var gross, net []float64
	for layout, t := range LayoutTimes(runs) {
		gross = append(gross, t)
		if l, ok := loop[layout]; ok {
			net = append(net, t-l)
		}
	}
	r.NsPerOp, r.NetNsPerOp = Median(gross), Median(net)
	r.OpsPerS = 1e9 / r.NsPerOp
	var peak, faults []float64
	for _, run := range runs {
		peak = append(peak, float64(run.PeakRSS))
		faults = append(faults, float64(run.MinorFaults))
	}
	r.PeakRSS, r.MinorFaults = uint64(Median(peak)), uint64(Median(faults))
	return r
}
