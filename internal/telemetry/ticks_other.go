//go:build !(amd64 || arm64)

package telemetry

import "time"

// Unit names what the numbers of this package count: nanoseconds of the
// monotonic clock, as no cycle counter is known here.
const Unit = "ns"

const knownHz = 1e9

var start = time.Now()

// ticks is never 0, so that a Begin in the first nanosecond is one.
func ticks() uint64 { return uint64(time.Since(start)) + 1 }
