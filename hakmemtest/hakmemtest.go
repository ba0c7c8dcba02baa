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
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/site"
)

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
		for _, f := range framesOf(b.Stack) {
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
	walk(func(b *engine.LiveBlock) {
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

func walk(f func(*engine.LiveBlock)) {
	var blocks []engine.LiveBlock
	for at, more := engine.WalkAt(0), true; more; {
		blocks, at, more = engine.LiveFrom(at, blocks[:0])
		for i := range blocks {
			f(&blocks[i])
		}
	}
}

// find returns the blocks that were recorded after start, and those that were never recorded and
// are not among before.
func find(start uint64, before []engine.Block, o *options) (leaks []hakmem.LiveBlock) {
	walk(func(b *engine.LiveBlock) {
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
		bytes  uintptr
	}
	byStack := map[string]*group{}
	var groups []*group
	var total uintptr
	for _, b := range leaks {
		key := fmt.Sprint(b.Stack)
		g := byStack[key]
		if g == nil {
			g = &group{}
			byStack[key] = g
			groups = append(groups, g)
		}
		g.blocks = append(g.blocks, b)
		g.bytes += b.Size
		total += b.Size
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(b.bytes, a.bytes) })
	var s strings.Builder
	fmt.Fprintf(&s, "hakmem: leak: %s, allocated since NoLeaks, alive at the end of the test; free each block, close each Arena\n", count(len(leaks), total))
	left := maxPrinted
	for i, g := range groups {
		if left == 0 {
			n, bytes := 0, uintptr(0)
			for _, g := range groups[i:] {
				n += len(g.blocks)
				bytes += g.bytes
			}
			fmt.Fprintf(&s, "and %s from %d other stacks\n", count(n, bytes), len(groups)-i)
			break
		}
		fmt.Fprintf(&s, "%s, allocated by\n%s", count(len(g.blocks), g.bytes), stackText(g.blocks[0].Stack))
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

func count(blocks int, bytes uintptr) string {
	if blocks == 1 {
		return fmt.Sprintf("1 block of %d bytes", bytes)
	}
	return fmt.Sprintf("%d blocks of %d bytes together", blocks, bytes)
}

func stackText(stack []uintptr) string {
	if len(stack) == 0 {
		return "    a Heap made before NoLeaks, or a call that overlapped it (no stack)\n"
	}
	var s strings.Builder
	for _, f := range framesOf(stack) {
		if f.Function == "testing.tRunner" || f.Function == "runtime.goexit" {
			break
		}
		fmt.Fprintf(&s, "    %s\n        %s:%d\n", f.Function, f.File, f.Line)
	}
	return s.String()
}

func framesOf(stack []uintptr) (frames []runtime.Frame) {
	if len(stack) == 0 {
		return nil
	}
	next := runtime.CallersFrames(stack)
	for {
		f, more := next.Next()
		frames = append(frames, f)
		if !more {
			return frames
		}
	}
}
