//go:build !(amd64 || arm64)

package telemetry

import "github.com/hakmem/hakmem/internal/realtime"

// Unit names what the numbers of this package count: nanoseconds of the monotonic clock, because no
// cycle counter is known for this processor.
const Unit = "ns"

const knownHz = 1e9

// ticks never returns 0, so that a Begin in the first nanosecond counts, too. With the reading of
// the clock inside, Begin would be too large for the inliner.
//
//go:noinline
func ticks() uint64 { return uint64(realtime.Now()) + 1 }
