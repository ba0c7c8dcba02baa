//go:build amd64 || arm64

package engine

// frames writes into pcs where the functions of the goroutine's stack return to, beginning with this one, as many
// as there is room for, and returns how many. It returns 0 if the stack cannot be followed to its end, as below a
// call from C. Unlike runtime.Callers, which it is some ten times as fast as, it does not know of functions that were inlined. So what it
// finds tells two stacks from each other, and runtime.Callers says what the stack is.
//
// Go keeps a frame pointer on these systems: the word at a frame is the address of the caller's frame, or 0 in the goroutine's first
// one, and the word behind it the address where the function returns to. The runtime's own profiles of blocked goroutines rest
// on that (fpTracebackPCs in runtime/mprof.go). A stack may move whenever the runtime interrupts Go code. It does not interrupt
// assembly, and so the walk is in assembly. A frame outside the goroutine's stack ends it.
func frames(pcs []uintptr) int {
	if len(pcs) == 0 {
		return 0
	}
	return walkFrames(&pcs[0], len(pcs))
}

// walkFrames is implemented in frames_*.s.
//
//go:noescape
func walkFrames(pcs *uintptr, room int) (n int)
