//go:build !(((go1.26 && !go1.28) || hakmem_untested_go) && !hakmem_nopin)

package realtime

import "time"

// SetsInBubble is off: this build sets timers with package time alone, which reckons in a bubble
// by the bubble's clock.
const SetsInBubble = false

// resetTimer sets t to the moment at of the process's time. The caller is in no bubble.
func resetTimer(t *time.Timer, at time.Duration) { t.Reset(at - Now()) }
