package hakmem

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// opFault is the Op of an error about memory that the program itself touched.
const opFault = "memory access"

// CatchFaults calls f. If f, on the calling goroutine, touches the guard pages around a guarded
// block (see HAKMEM_GUARD) or the memory of a freed one, CatchFaults panics with a [*MisuseError].
// It names the block, the offset of the access, and the places where the block was allocated and
// freed. A fault at any other address panics with Go's own runtime.Error, and every other panic of
// f is passed on.
//
// Without CatchFaults such an access ends the process with Go's message "unexpected fault address".
// To learn more, run the program again with the work of main inside CatchFaults and with
// HAKMEM_GUARD=1, or 1/100 if memory does not allow 1. Any goroutine may call CatchFaults, and
// calls may nest.
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

// Stacks returns a text that says where the block was allocated and freed, as far as is known: each
// function on one line, its file and line number on the next. Guarded blocks have these stacks.
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
