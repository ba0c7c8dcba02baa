//go:build hakmem_nopin

package realtime

import (
	"sync/atomic"
	"time"
)

// Nothing internal to the Go runtime is used in this build, so that a goroutine in a bubble cannot
// ask for the process's time.

var began = time.Now()

// latest is the latest time seen, in nanoseconds.
var latest atomic.Int64

func now() time.Duration {
	t := time.Now()
	if t == t.Round(0) { // in a bubble; see bubbled
		return time.Duration(latest.Load())
	}
	d := int64(t.Sub(began))
	for {
		seen := latest.Load()
		if d <= seen || latest.CompareAndSwap(seen, d) {
			return time.Duration(d)
		}
	}
}
