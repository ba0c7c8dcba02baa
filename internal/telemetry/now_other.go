//go:build !windows

package telemetry

import "time"

var began = time.Now()

// now returns the time since some moment, by a clock with steps of some nanoseconds.
func now() time.Duration { return time.Since(began) }
