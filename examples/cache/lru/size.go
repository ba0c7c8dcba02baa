package lru

import (
	"math"
	"runtime/metrics"
	"slices"
	"sync"
)

// blockSize rounds n up as the Go runtime does: to a size class, or above the largest class to whole
// pages.
func blockSize(n int) int {
	const pageSize = 8 << 10 // of the Go runtime, on every platform
	classes := goSizeClasses()
	i, _ := slices.BinarySearch(classes, n)
	switch {
	case i < len(classes):
		return classes[i]
	case n > math.MaxInt-pageSize:
		return n
	}
	return (n + pageSize - 1) &^ (pageSize - 1)
}

// goSizeClasses returns the Go runtime's size classes in ascending order. It reads them from the
// only place that publishes them: the bucket bounds of a histogram.
var goSizeClasses = sync.OnceValue(func() []int {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs-by-size:bytes"}}
	metrics.Read(sample)
	var classes []int
	if sample[0].Value.Kind() == metrics.KindFloat64Histogram {
		for _, bound := range sample[0].Value.Float64Histogram().Buckets {
			if bound > 1 && bound <= 1<<30 { // each bound is the size + 1; the last is +Inf
				classes = append(classes, int(bound)-1)
			}
		}
	}
	return classes
})
