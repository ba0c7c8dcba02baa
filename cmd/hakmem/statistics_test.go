package main

import "github.com/hakmem/hakmem/bench/result"

func runsOf(times ...float64) (runs []result.Run) {
	for _, t := range times {
		runs = append(runs, result.Run{NsPerOp: t})
	}
	return runs
}
