package main

import "github.com/hakmem/hakmem/bench/result"

// sample is the resident memory of a child, in bytes, at a time in nanoseconds of the monotonic
// clock.
type sample struct {
	at  int64
	rss uint64
}

// maxPoints bounds the points of a curve in a report: more than the columns of a chart that a
// reader can distinguish.
const maxPoints = 200

// timed returns the samples of the run's timed part.
func timed(list []sample, r result.Run) []sample {
	first, last := len(list), 0
	for i, s := range list {
		if s.at >= r.Begin && s.at <= r.End {
			first, last = min(first, i), i+1
		}
	}
	if first >= last {
		return nil
	}
	return list[first:last]
}

// area is the integral of the memory over idle, in bytes times seconds. Each sample counts for the
// time up to the next one; the first and the last also count for the rest of the timed part.
func area(list []sample, r result.Run) float64 {
	if r.IdleRSS == 0 { // not known on this system
		return 0
	}
	list = timed(list, r)
	if len(list) == 0 { // the run is shorter than watchEvery: count the peak for all of it
		return max(0, float64(r.PeakRSS)-float64(r.IdleRSS)) * r.Seconds
	}
	sum := 0.0
	for i, s := range list {
		from, to := r.Begin, r.End
		if i > 0 {
			from = s.at
		}
		if i+1 < len(list) {
			to = list[i+1].at
		}
		sum += max(0, float64(s.rss)-float64(r.IdleRSS)) * float64(to-from) / 1e9
	}
	return sum
}

// curve reduces the samples to the number that a report holds. A point is the seconds since the
// timed part began, and bytes.
func curve(list []sample, r result.Run) [][2]float64 {
	list = timed(list, r)
	step := max(1, (len(list)+maxPoints-1)/maxPoints)
	var points [][2]float64
	for i := 0; i < len(list); i += step {
		high := list[i]
		for _, s := range list[i:min(i+step, len(list))] { // keep the peak
			if s.rss > high.rss {
				high = s
			}
		}
		points = append(points, [2]float64{float64(high.at-r.Begin) / 1e9, float64(high.rss)})
	}
	return points
}
