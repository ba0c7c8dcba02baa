package hakmem

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// opFault stands for an operation where the program itself touched memory.
const opFault = "memory access"

// CatchFaults calls f. If f, on the calling goroutine, touches the memory around a
// guarded block (see HAKMEM_GUARD) or that of one that was freed, CatchFaults
// panics with a *MisuseError that says which block, how far off, and where it was
// allocated and freed. A fault at another address panics with the runtime.Error
// that Go gives it; every other panic of f is passed on.
//
// Without CatchFaults such an access ends the process with Go's "unexpected fault
// address". To learn more, run it again with main's work inside CatchFaults and
// HAKMEM_GUARD=1 if memory allows, else 1/100. Any goroutine; calls may nest.
func CatchFaults(f func()) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if e, ok := r.(interface{ Addr() uintptr }); ok {
			if bad := engine.GuardFinding(mem.Addr(e.Addr())); bad.Kind != engine.OK {
				panic(misuse(opFault, bad))
			}
		}
		panic(r)
	}()
	f()
}

// Stacks prints where the block was allocated and freed, as far as is known: each
// function with its file and line below it. Guarded blocks have them.
func (e *MisuseError) Stacks() string {
	var b strings.Builder
	for _, s := range []struct {
		what string
		pcs  []uintptr
	}{{"allocated", e.AllocStack}, {"freed", e.FreeStack}} {
		if len(s.pcs) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s by:\n", s.what)
		frames := runtime.CallersFrames(s.pcs)
		for {
			f, more := frames.Next()
			fmt.Fprintf(&b, "\t%s\n\t\t%s:%d\n", f.Function, f.File, f.Line)
			if !more {
				break
			}
		}
	}
	return b.String()
}
