//go:build !hakmem_racetrack

// With that tag Go counts hakmem's address range as memory of its own (see the package comment).

package governor

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

var _ = testkit.Child("read", readsBoth)

// TestRead: what is read of both sides tells what is alive, what is free, and what was returned.
func TestRead(t *testing.T) { testkit.InChild(t, "read", "", "HAKMEM_KEEP=always") }

func readsBoth(string) error {
	const size = 64 * mib
	p := newProcess()
	ofGo, h := p.read()
	if ofGo.used == 0 || ofGo.used > size/2 || ofGo.other == 0 || ofGo.other > ofGo.used || ofGo.percent != 100 || ofGo.limit != 1<<63-1 || h.counted > size/2 {
		return fmt.Errorf("at the start: %+v, %+v", ofGo, h)
	}

	alive, garbage := make([]byte, size), make([]byte, size)
	alive[0], garbage[0] = 1, 1
	runtime.KeepAlive(garbage)
	garbage = nil
	cycles := ofGo.cycles
	debug.FreeOSMemory() // collects too
	ofGo, _ = p.read()
	if ofGo.live < size || ofGo.live > 2*size || ofGo.used < size || ofGo.used > 2*size || ofGo.other > size/2 || ofGo.cycles <= cycles {
		return fmt.Errorf("with %d MiB alive in Go's heap and as much returned: %+v", size/mib, ofGo)
	}
	runtime.KeepAlive(alive)

	for _, each := range []int{mib, 4 * mib} { // what is free lies in pages, or in the cache of huge blocks
		b := make([][]byte, size/each)
		for i := range b {
			b[i] = hakmem.MakeSlice[byte](each, each)
		}
		if _, h = p.read(); h.least < size || h.counted < h.least || h.counted > 2*size {
			return fmt.Errorf("with %d MiB off the heap: %+v", size/mib, h)
		}
		for i := range b {
			hakmem.FreeSlice(b[i])
		}
		if _, h = p.read(); h.least > size/2 || h.counted < size {
			return fmt.Errorf("with %d MiB of free memory: %+v", size/mib, h)
		}
	}
	if err := hakmem.SetMemoryLimit(10*mib, 20*mib); err != nil {
		return err
	}
	if _, h = p.read(); h.limits != (limits{10 * mib, 20 * mib}) {
		return fmt.Errorf("limits: %+v", h)
	}
	if was, err := p.setHakmem(limits{5 * mib, 0}); err != nil || was != (limits{10 * mib, 20 * mib}) {
		return fmt.Errorf("limits before those that were set: %+v, %v", was, err)
	}
	if _, h = p.read(); h.limits != (limits{5 * mib, 0}) {
		return fmt.Errorf("limits that were set: %+v", h)
	}
	if _, err := p.setHakmem(limits{5 * mib, 1}); err == nil {
		return fmt.Errorf("a hard limit of 1 byte is no error")
	}
	return nil
}
