//go:build hakmem_nopin

package engine

// canPin is off: every front is behind a lock (see shard), and nothing of the
// Go runtime's inside is used.
const canPin = false

func procPin() int { return 0 }
func procUnpin()   {}
