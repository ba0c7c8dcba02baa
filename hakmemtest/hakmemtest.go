// Package hakmemtest helps tests of programs that use hakmem.
//
//	func TestCache(t *testing.T) {
//		hakmemtest.NoLeaks(t)
//		c := NewCache()
//		defer c.Close()
//		...
//	}
package hakmemtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/leak"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
)

// noStack is what stands for a stack that was not recorded.
const noStack = "a Heap made before NoLeaks, or a call that overlapped it (no stack)"

// maxPrinted is how many blocks NoLeaks prints. More would hide what the first ones show.
const maxPrinted = 20

// Option changes what NoLeaks reports.
type Option func(*options)

type options struct{ ignore []func(hakmem.LiveBlock) bool }

// Ignore leaves out the blocks for which f returns true, for example those of a cache that outlives
// the test on purpose. The block's Stack is nil where it is not known. f must not keep the
// LiveBlock. It may use package hakmem.
func Ignore(f func(b hakmem.LiveBlock) bool) Option {
	return func(o *options) { o.ignore = append(o.ignore, f) }
}

// IgnoreFunction leaves out the blocks whose allocation has the function on its stack. The name is
// that of runtime.Frame, which includes the path of the package: "example.com/cache.(*Cache).fill".
func IgnoreFunction(name string) Option {
	return Ignore(func(b hakmem.LiveBlock) bool {
		for _, f := range leak.Frames(b.Stack) {
			if f.Function == name {
				return true
			}
		}
		return false
	})
}

// NoLeaks makes the test fail if a block that was allocated after this call is still alive at the
// end of the test. Call it first. The check runs when the test, its subtests and the cleanups
// registered after this call have ended. For each leaked block NoLeaks reports, with t.Errorf, the
// address, the size in bytes (that of the size class), the [hakmem.Site] and the stack of the
// allocation. It reports at most 20 blocks, grouped by stack, and says how many more there are.
//
// Blocks that were alive before the call are not leaks, whatever happens to them. A chunk of an
// Arena that is not closed is a leak. A Heap that is not closed is not a leak if its blocks were
// freed.
//
// NoLeaks counts the blocks of all goroutines and does not wait for any of them: a goroutine that
// frees blocks must have ended when the test ends. For the same reason NoLeaks may report blocks of
// a test that runs at the same time (t.Parallel). Use it in tests that do not run in parallel with
// others, or leave out the others' blocks with [Ignore]. Tests and their subtests may all call it.
//
// A Heap made before the call may still hand out blocks from its magazines. If such a block leaks,
// it is reported without a stack or, if it was alive before the call, not at all.
//
// For a program outside of tests, WriteLeaks of package hakmempprof lists live blocks by where they were allocated.
//
// Cost: while a NoLeaks is active, every call of every goroutine takes the slow path and a lock,
// and every allocation records its stack. That takes some microseconds, and about 100 bytes of Go
// memory for each live block. The beginning and the end walk over every live block and stop the
// world.
func NoLeaks(t testing.TB, opts ...Option) {
	t.Helper()
	var o options
	for _, set := range opts {
		set(&o)
	}
	start := engine.StartRecording()
	var before []engine.Block
	leak.Walk(func(b *engine.LiveBlock) {
		if b.Seq <= start {
			before = append(before, b.Addr)
		}
	})
	slices.Sort(before) // LiveFrom returns guarded blocks last, whatever their addresses
	t.Cleanup(func() {
		t.Helper()
		defer engine.StopRecording() // also when an Ignore panics
		if leaks := find(start, before, &o); len(leaks) > 0 {
			t.Errorf("%s", report(leaks))
		}
	})
}

// find returns the blocks that were recorded after start, and those that were never recorded and
// are not among before.
func find(start uint64, before []engine.Block, o *options) (leaks []hakmem.LiveBlock) {
	leak.Walk(func(b *engine.LiveBlock) {
		if b.Seq <= start {
			if _, old := slices.BinarySearch(before, b.Addr); old || b.Seq > 0 {
				return
			}
		}
		l := hakmem.LiveBlock{Addr: uintptr(b.Addr), Size: uintptr(b.Size), Site: hakmem.Site(b.Site), Arena: b.Arena, Stack: b.Stack}
		if b.Site != 0 {
			l.SiteName, _, _ = site.Read(b.Site)
		}
		for _, ignored := range o.ignore {
			if ignored(l) {
				return
			}
		}
		leaks = append(leaks, l)
	})
	return leaks
}

// report describes the leaks, grouped by stack, the stack with the most bytes first.
func report(leaks []hakmem.LiveBlock) string {
	type group struct {
		blocks []hakmem.LiveBlock
		bytes  mem.Bytes
	}
	byStack := map[string]*group{}
	var groups []*group
	var total mem.Bytes
	for _, b := range leaks {
		key := leak.Key(b.Stack)
		g := byStack[key]
		if g == nil {
			g = &group{}
			byStack[key] = g
			groups = append(groups, g)
		}
		g.blocks = append(g.blocks, b)
		g.bytes += mem.Bytes(b.Size)
		total += mem.Bytes(b.Size)
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(b.bytes, a.bytes) })
	var s strings.Builder
	fmt.Fprintf(&s, "hakmem: leak: %s, allocated since NoLeaks, alive at the end of the test; free each block, close each Arena\n", leak.Count(int64(len(leaks)), total))
	left := maxPrinted
	for i, g := range groups {
		if left == 0 {
			n, bytes := 0, mem.Bytes(0)
			for _, g := range groups[i:] {
				n += len(g.blocks)
				bytes += g.bytes
			}
			fmt.Fprintf(&s, "and %s from %d other stacks\n", leak.Count(int64(n), bytes), len(groups)-i)
			break
		}
		fmt.Fprintf(&s, "%s, allocated by\n%s", leak.Count(int64(len(g.blocks)), g.bytes), leak.StackText(g.blocks[0].Stack, noStack))
		for j, b := range g.blocks {
			if left == 0 {
				fmt.Fprintf(&s, "    and %d more\n", len(g.blocks)-j)
				break
			}
			left--
			what := "block"
			if b.Arena {
				what = "chunk of an Arena"
			}
			fmt.Fprintf(&s, "    %s %#x of %d bytes", what, b.Addr, b.Size)
			if b.Site != 0 {
				fmt.Fprintf(&s, ", site %q", b.SiteName)
			}
			s.WriteByte('\n')
		}
	}
	return strings.TrimSuffix(s.String(), "\n")
}
