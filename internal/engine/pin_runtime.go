//go:build !hakmem_nopin

package engine

import _ "unsafe" // for go:linkname

// canPin says whether a goroutine can be pinned to its P.
const canPin = true

// procPin keeps the goroutine on its P and the P's other goroutines off it, until procUnpin. Both
// are on Go's list of runtime functions that are kept for outside users (go.dev/issue/67401).

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()
