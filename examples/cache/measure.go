package main

import (
	"math/bits"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// histogram counts durations in nanoseconds in buckets no wider than 1/32 of
// their value: 32 buckets for each doubling. One goroutine owns it.
type histogram struct {
	buckets [64 * 32]uint64
	n       uint64
	max     time.Duration
}

// bucketOf gives the values 0…63 a bucket each, and larger values one by their leading 6 bits.
func bucketOf(ns uint64) int {
	shift := max(bits.Len64(ns), 6) - 6
	return shift*32 + int(ns>>shift)
}

// bucketTop is the largest value of a bucket.
func bucketTop(i int) uint64 {
	shift := max(i/32, 1) - 1
	return (uint64(i-shift*32)+1)<<shift - 1
}

func (h *histogram) record(d time.Duration) {
	h.buckets[bucketOf(uint64(max(d, 0)))]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) add(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile returns a duration that the fraction q of all durations does not exceed. It is at most
// 1/32 too large.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	for i, n := range h.buckets {
		if rank < n {
			return min(time.Duration(bucketTop(i)), h.max)
		}
		rank -= n
	}
	return h.max
}

// gcState is what the runtime reports about its garbage collector, as running totals.
type gcState struct {
	cpuSeconds float64
	cycles     uint64
	pauses     *metrics.Float64Histogram
}

func readGC() gcState {
	s := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"}, // updated at the end of each cycle
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/sched/pauses/total/gc:seconds"},
	}
	metrics.Read(s)
	return gcState{s[0].Value.Float64(), s[1].Value.Uint64(), s[2].Value.Float64Histogram()}
}

// worstPause is the upper bound of the longest stop of the world that g counts and the earlier
// state before does not.
func (g gcState) worstPause(before gcState) time.Duration {
	for i := len(g.pauses.Counts) - 1; i >= 0; i-- {
		if g.pauses.Counts[i] > before.pauses.Counts[i] {
			// The last bucket has no upper bound.
			bound := g.pauses.Buckets[min(i+1, len(g.pauses.Buckets)-2)]
			return time.Duration(bound * float64(time.Second))
		}
	}
	return 0
}

// readRSS returns the resident memory of this process and its peak, in bytes. Both are 0 on systems
// without /proc.
func readRSS() (now, peak int64) {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "VmRSS:":
				now = kib << 10
			case "VmHWM:":
				peak = kib << 10
			}
		}
	}
	return now, peak
}
