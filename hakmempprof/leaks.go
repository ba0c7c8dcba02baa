package hakmempprof

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/leak"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/profile"
	"github.com/hakmem/hakmem/internal/site"
)

// WriteLeaks writes a text to w that lists the live blocks by where they were allocated: for each stack and site how many
// blocks there are and of how many bytes, and the oldest and the newest of them, with their ages. The stack with the most
// bytes comes first. What a program has at its end are the blocks that it forgot to free; so this line, at the beginning of
// main, finds leaks:
//
//	defer hakmempprof.WriteLeaks(os.Stderr) // with HAKMEM_PROFILE_RATE=1 in the environment
//
// (os.Exit and log.Fatal run no deferred calls.) In a program that goes on, a stack whose oldest block is as old as the
// program and whose newest one is new, and which has more blocks each time, is the one to look at.
//
// It needs a profile and returns [ErrOff] without one; so the line may stay in the program. With a profile of rate 1 each
// block is listed. With another rate the list is an estimate from the blocks that are samples, except for the sum in the first
// line, which is exact. An Arena counts with the pieces of memory that it takes. The memory of a Heap or an Arena that nobody
// can reach goes back after a garbage collection: call runtime.GC before, for what was dropped not to be listed.
//
// Blocks count with the bytes of their size class, as in [hakmem.LiveBlocks]; a guarded one with those that were asked
// for. While others allocate and free, each block is seen as it is at some moment of the call. A Realloc that moves a block, or
// changes its size where it is, begins its age anew. WriteLeaks takes the time of a walk over all live blocks, some 10 ms for
// a gigabyte of small ones and half a microsecond for each sample, and Go memory for each stack. It returns the first error of w. Any goroutine.
func WriteLeaks(w io.Writer) error {
	rate := engine.ProfileRate()
	if rate <= 0 {
		return ErrOff
	}
	return readLeaks(rate).write(w)
}

// leaks are live blocks by where they were allocated.
type leaks struct {
	rate    profile.Rate
	blocks  int64     // all live ones
	bytes   mem.Bytes // of these
	samples int64
	groups  []*leakGroup
}

// leakGroup are the blocks with one stack and one site. The chunks of Arenas are apart from blocks.
type leakGroup struct {
	stack          []uintptr
	site           site.ID
	arena          bool
	listed         int64
	blocks, bytes  float64 // for which those that are listed stand
	oldest, newest leaked
}

// leaked is a block.
type leaked struct {
	at   engine.Block
	size mem.Bytes
	age  time.Duration
}

// readLeaks walks over all live blocks.
func readLeaks(rate profile.Rate) *leaks {
	type place struct {
		stack string
		site  site.ID
		arena bool
	}
	l := &leaks{rate: rate}
	groups := map[place]*leakGroup{}
	leak.Walk(func(b *engine.LiveBlock) {
		l.blocks++
		l.bytes += b.Size
		if b.Sample {
			l.samples++
		} else if rate > 1 {
			return
		}
		p := place{leak.Key(b.Stack), b.Site, b.Arena}
		if engine.IsCaller(p.site) {
			p.site = 0 // the stack says it
		}
		g := groups[p]
		if g == nil {
			g = &leakGroup{stack: b.Stack, site: p.site, arena: p.arena}
			groups[p] = g
			l.groups = append(l.groups, g)
		}
		g.add(leaked{b.Addr, b.Size, b.Age}, rate)
	})
	slices.SortStableFunc(l.groups, func(a, b *leakGroup) int { return cmp.Compare(b.bytes, a.bytes) })
	return l
}

func (g *leakGroup) add(b leaked, rate profile.Rate) {
	if g.listed == 0 || b.age > g.oldest.age {
		g.oldest = b
	}
	if g.listed == 0 || b.age <= g.newest.age {
		g.newest = b
	}
	g.listed++
	x := rate.Weight(max(b.size, 1)) // a guarded block may have no bytes
	g.blocks += x
	g.bytes += x * float64(b.size)
}

// write writes the list with its groups in their order.
func (l *leaks) write(w io.Writer) error {
	out := bufio.NewWriter(w) // it keeps the first error
	switch {
	case l.blocks == 0:
		fmt.Fprintln(out, "hakmem: no block is live")
	case l.rate > 1:
		fmt.Fprintf(out, "hakmem: live: %s; %d of them are samples, one in %d bytes on average, from which the numbers below are estimated\n",
			leak.Count(l.blocks, l.bytes), l.samples, l.rate)
	default:
		fmt.Fprintf(out, "hakmem: live: %s\n", leak.Count(l.blocks, l.bytes))
	}
	for _, g := range l.groups {
		about := ""
		if l.rate > 1 {
			about = "about "
		}
		fmt.Fprintf(out, "%s%s", about, leak.Count(int64(math.Round(g.blocks)), mem.Bytes(math.Round(g.bytes))))
		if g.arena {
			fmt.Fprint(out, " in Arenas")
		}
		if g.site != 0 {
			fmt.Fprintf(out, ", site %q", siteName(g.site))
		}
		fmt.Fprintf(out, ", allocated by\n%s", leak.StackText(g.stack, "a function that is not known"))
		if g.listed == 1 {
			fmt.Fprintf(out, "    %v\n", g.oldest)
		} else {
			fmt.Fprintf(out, "    the oldest: %v\n    the newest: %v\n", g.oldest, g.newest)
		}
	}
	return out.Flush()
}

// String says where the block is and how old.
func (b leaked) String() string {
	return fmt.Sprintf("%#x of %d bytes, %v old", uintptr(b.at), b.size, b.age.Round(agePrecision(b.age)))
}

// agePrecision is what an age is rounded to: more digits than four or five say nothing more.
func agePrecision(age time.Duration) time.Duration {
	switch {
	case age < time.Second:
		return 10 * time.Microsecond
	case age < time.Minute:
		return time.Millisecond
	}
	return time.Second
}
