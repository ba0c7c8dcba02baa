//go:build !linux

package osmem

import "time"

func nap(d time.Duration) { time.Sleep(d) }
