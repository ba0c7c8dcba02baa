//go:build !hakmem_nopin

package engine

import _ "unsafe" // for go:linkname

// canPin says that a goroutine can be pinned to its P.
const canPin = true

// procPin and procUnpin are on Go's list of runtime functions kept for
// outsiders (go.dev/issue/67401): pinning keeps the goroutine on its P and the
// P's other goroutines off it.

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()
