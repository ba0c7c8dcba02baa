//go:build !hakmem_nopin

package realtime

import (
	"time"
	_ "unsafe" // for go:linkname
)

// nanotime is the system's monotonic clock. It is on Go's list of runtime functions that are kept
// for outside users (go.dev/issue/67401).
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

var began = nanotime()

func now() time.Duration { return time.Duration(nanotime() - began) }
