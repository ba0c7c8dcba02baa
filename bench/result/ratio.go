package result

import "strings"

// The peers' figures over hakmem's.

// IsHakmem reports whether an allocator is one of hakmem's interfaces; the others are peers.
func IsHakmem(allocator string) bool { return strings.HasPrefix(allocator, "hakmem") }

// Over is a over b, or 0 where one of them is not known. A net time of 0 or less, of a loop that
// was no slower than the empty one, is not known either.
func Over(a, b float64) float64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	return a / b
}

// Ratios relates every peer to each of hakmem's interfaces.
func Ratios(results []Result) []Ratio {
	rows := []Ratio{}
	for _, h := range results {
		if !IsHakmem(h.Allocator) {
			continue
		}
		slowest, fastest := h.NsPerOp, h.NsPerOp
		if placements := PlacementTimes(h.Runs); len(placements) > 1 {
			for _, t := range placements {
				slowest, fastest = max(slowest, t), min(fastest, t)
			}
		}
		for _, p := range results {
			if IsHakmem(p.Allocator) {
				continue
			}
			row := Ratio{
				Hakmem: h.Allocator, Peer: p.Allocator,
				Raw: Over(p.NsPerOp, h.NsPerOp), Low: Over(p.NsPerOp, slowest), High: Over(p.NsPerOp, fastest),
				Net: Over(p.NetNsPerOp, h.NetNsPerOp), P: Chance(h.Runs, p.Runs),
				Memory: Over(float64(p.OverIdle), float64(h.OverIdle)), Area: Over(p.RSSSeconds, h.RSSSeconds),
			}
			if ComparableP99(h.Latency, p.Latency) {
				row.P99 = Over(p.Latency.P99, h.Latency.P99)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// Complete adds what reports of older versions leave out: the memory over idle of each result, and
// the ratios. Figures that the report has are not computed again.
func (r *Report) Complete() {
	for i := range r.Results {
		if res := &r.Results[i]; res.OverIdle == 0 {
			res.OverIdle = OverIdle(res.Runs)
		}
	}
	if len(r.Ratios) == 0 {
		r.Ratios = Ratios(r.Results)
	}
}
