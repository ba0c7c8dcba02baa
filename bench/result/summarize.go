package result

// The figures of one allocator, from its runs.

// Summarize makes the result of one allocator from its runs and from those of the empty loop of the
// same program. A time is the median over the placements of the medians over each placement's runs.
// The empty loop's time is subtracted placement by placement.
func Summarize(name string, runs, empty []Run) Result {
	r := Result{Allocator: name, Runs: runs}
	if len(runs) == 0 {
		return r
	}
	r.Version = runs[0].Version
	loop := PlacementTimes(empty)
	var gross, net []float64
	for placement, t := range PlacementTimes(runs) {
		gross = append(gross, t)
		if l, ok := loop[placement]; ok {
			net = append(net, t-l)
		}
	}
	r.NsPerOp, r.NetNsPerOp = Median(gross), Median(net)
	if len(gross) > 1 {
		r.Placements = InOrder(PlacementTimes(runs))
	}
	r.Low, r.High, r.Confidence = Interval(runs)
	r.OpsPerS = 1e9 / r.NsPerOp
	median := func(of func(Run) float64) float64 {
		var values []float64
		for _, run := range runs {
			values = append(values, of(run))
		}
		return Median(values)
	}
	r.PeakRSS = uint64(median(func(r Run) float64 { return float64(r.PeakRSS) }))
	r.MinorFaults = uint64(median(func(r Run) float64 { return float64(r.MinorFaults) }))
	r.RSSSeconds = median(func(r Run) float64 { return r.Area })
	r.OverIdle = OverIdle(runs)
	return r
}

// OverIdle is the median growth of the runs' memory: the peak less the resident memory just before
// the loop. A run that stayed within the memory it had grew by 0, and counts as such. Otherwise the
// median of those that grew would show memory for an allocator that most often needs none. A run
// does not count if its memory before the loop is not known.
func OverIdle(runs []Run) uint64 {
	var over []float64
	for _, r := range runs {
		if r.IdleRSS > 0 {
			over = append(over, max(0, float64(r.PeakRSS)-float64(r.IdleRSS)))
		}
	}
	return uint64(Median(over))
}
