//go:build hakmem_nopin

package engine

// canPin is off: every front is behind a lock (see shard), and nothing internal to the Go runtime
// is used.
const canPin = false

func procPin() int { return 0 }
func procUnpin()   {}
