//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && !hakmem_nopin

package realtime

import (
	"math"
	"time"
	_ "unsafe" // for go:linkname
)

// SetsInBubble says that a goroutine in a bubble can set a timer of the process.
const SetsInBubble = true

// reset is time.Timer's Reset with the moment in place of the distance from now, which Reset takes
// from the caller's clock. The runtime pushes it to package time. The build line names the versions
// of Go for which that is known.
//
//go:linkname reset time.resetTimer
func reset(t *time.Timer, when, period int64) bool

// resetTimer sets t to the moment at of the process's time.
func resetTimer(t *time.Timer, at time.Duration) {
	when := began + int64(at)
	if when <= 0 { // too far away for the runtime's clock
		when = math.MaxInt64
	}
	reset(t, when, 0)
}
