//go:build !windows

package telemetry

import (
	"time"

	"github.com/hakmem/hakmem/internal/realtime"
)

// now returns the time since some moment, by a clock with steps of some nanoseconds.
func now() time.Duration { return realtime.Now() }
