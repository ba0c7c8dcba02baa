package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/profile"
	"github.com/hakmem/hakmem/internal/site"
)

// withProfile begins a profile for the test, with gaps that a seed decides.
func withProfile(t *testing.T, rate int, seed uint64, settings ...string) {
	t.Helper()
	if !checkLive {
		t.Skip("skipped: hakmem_nolive: there is no profile")
	}
	gates := map[string]string{"HAKMEM_PROFILE_RATE": fmt.Sprint(rate)}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		gates[name] = value
	}
	forget := func() {
		profiled.Lock()
		defer profiled.Unlock()
		profiled.table, profiled.blocks, profiled.stacks = nil, nil, 0
		for i := range drawnMarks {
			drawnMarks[i].Store(0)
		}
	}
	withPolicy(t, gates)
	r := rand.New(rand.NewPCG(seed, 1))
	nextGap = r.ExpFloat64
	t.Cleanup(func() {
		nextGap = rand.ExpFloat64
		forget()
	})
	forget()
	withRoad(t) // all fronts begin anew
}

// profiledCounts returns the sum of all samples.
func profiledCounts() (n profile.Counts) {
	for _, s := range ReadProfile(false) {
		n.Allocs += s.Allocs
		n.Frees += s.Frees
	}
	return n
}

// mustBeNear fails the test if got is more than 5 standard deviations from what n draws with probability p give, and
// two samples more: where nearly all or nearly none are drawn, one sample may be many deviations.
func mustBeNear(t *testing.T, what string, got int64, n int, p float64) {
	t.Helper()
	want, sigma := float64(n)*p, math.Sqrt(float64(n)*p*(1-p))
	if d := math.Abs(float64(got) - want); d > 5*sigma+2 {
		t.Errorf("%s: %d samples of %d, want %.1f with a deviation of %.1f", what, got, n, want, sigma)
	}
}

// TestProfileSamples: whatever function allocates a block, and whatever its size, it is a sample with the
// probability that its bytes have; and the free of each sample is seen.
func TestProfileSamples(t *testing.T) {
	type way struct {
		what  string
		size  mem.Bytes
		alloc func(f Front, size mem.Bytes) Block
	}
	road := func(_ Front, size mem.Bytes) Block { return Block(Road.Malloc(uintptr(size))) }
	onHeap := func(f Front, size mem.Bytes) Block { return Malloc(f, size) }
	s := RegisterSite("profile samples")
	ways := []way{
		{"Malloc", 1, road}, {"Malloc", 64, road}, {"Malloc", 1000, road}, {"Malloc", 1025, road}, {"Malloc", 20_000, road}, {"Malloc", 32 << 10, road},
		{"Malloc", 32<<10 + 1, road}, {"Malloc", 100_000, road}, {"Malloc", 1_000_000, road}, {"Malloc", 2 << 20, road}, {"Malloc", 3 << 20, road},
		{"Heap.Malloc", 100, onHeap}, {"Heap.Malloc", 5000, onHeap}, {"Heap.Malloc", 50_000, onHeap},
		{"MallocAt", 100, func(_ Front, size mem.Bytes) Block { return MallocAt(s, size) }},
		{"MallocAt", 70_000, func(_ Front, size mem.Bytes) Block { return MallocAt(s, size) }},
		{"MallocAligned", 300, func(_ Front, size mem.Bytes) Block { return MallocAligned(256, size, 0) }},
		{"MallocMoved", 300, func(f Front, size mem.Bytes) Block { return MallocMoved(f, 1, size, 0, true, KeepAll) }},
		{"MallocZero", 40_000, MallocZero},
	}
	for i, x := range []struct {
		rate     int
		settings string
	}{
		{4096, ""}, {512 << 10, ""}, {4096, "HAKMEM_FAST_SECTION=0"}, {4096, "HAKMEM_GUARD=1/1000 HAKMEM_SITES=pc/100"},
	} {
		t.Run(fmt.Sprintf("%d %s", x.rate, x.settings), func(t *testing.T) {
			withProfile(t, x.rate, uint64(i+1), strings.Fields(x.settings)...)
			f := heapFront(t)
			for _, w := range ways {
				p := w.alloc(f, w.size)
				size, _ := accounted(p)
				mustFree(t, f, p)
				share := 1 / profile.Rate(x.rate).Weight(size)
				n := int(100/share) + 100 // for a hundred samples
				if raced || testing.Short() {
					n = min(n, 20_000)
				}
				before := profiledCounts()
				var kept []Block
				for i := range n {
					p := w.alloc(f, w.size)
					if p == 0 {
						t.Fatal(Survived())
					}
					if i%4 == 0 && len(kept) < 2000 && mem.Bytes(len(kept))*size < 64<<20 {
						kept = append(kept, p)
					} else if i%2 == 0 {
						Road.Free(unsafe.Pointer(ptr(mem.Addr(p))))
					} else {
						mustFree(t, f, p)
					}
				}
				after := profiledCounts()
				what := fmt.Sprintf("%s of %d bytes", w.what, w.size)
				mustBeNear(t, what, after.Allocs-before.Allocs, n, share)
				mustBeNear(t, what+", live", after.Live()-before.Live(), len(kept), share)
				for _, p := range kept {
					mustFree(t, f, p)
				}
			}
			if n := profiledCounts(); n.Live() != 0 || len(profiled.blocks) != 0 {
				t.Errorf("all is freed: %+v, and %d samples", n, len(profiled.blocks))
			}
			for i := range drawnMarks {
				if n := drawnMarks[i].Load(); n != 0 {
					t.Fatalf("all is freed, and mark %d is %d", i, n)
				}
			}
		})
	}
	mustHold(t)
}

// mustFree frees a block.
func mustFree(t *testing.T, f Front, p Block) {
	t.Helper()
	if bad := Free(f, p); bad.Kind != OK {
		t.Fatalf("%+v", bad)
	}
}

// TestProfileOfSites: with a GiB alive in 200 sites, the sites that have a twentieth of it or more are seen as they
// are, and so is the whole.
func TestProfileOfSites(t *testing.T) {
	const rate, all = 512 << 10, 1 << 30
	withProfile(t, rate, 7)
	sizes := []mem.Bytes{100, 1000, 4 << 10, 40_000, 300_000}
	type books struct {
		bytes    mem.Bytes
		variance float64 // of the bytes that the samples stand for
	}
	var total books
	bySite := map[site.ID]books{}
	var blocks []Block
	left := mem.Bytes(all)
	for i := range 200 {
		s, size := RegisterSite(fmt.Sprintf("profile site %d", i)), sizes[i%len(sizes)]
		if i%len(sizes) < 2 && i > 10 {
			size = sizes[2] // some hundred thousand small blocks are enough
		}
		share := left / 8
		for range max(share/size, 1) {
			p := MallocAt(s, size)
			if p == 0 {
				t.Fatal(Survived())
			}
			n, _ := accounted(p)
			p1 := 1 / profile.Rate(rate).Weight(n)
			b := bySite[s]
			b.bytes += n
			b.variance += float64(n) * float64(n) * (1 - p1) / p1
			bySite[s] = b
			total.bytes += n
			total.variance += float64(n) * float64(n) * (1 - p1) / p1
			blocks = append(blocks, p)
		}
		left -= min(share, left)
	}
	got := map[site.ID]int64{}
	sum := int64(0)
	for _, x := range ReadProfile(false) {
		_, bytes := profile.Rate(rate).Estimate(x.Live(), x.Size)
		got[x.Site] += bytes
		sum += bytes
	}
	seen := 0
	for s, b := range bySite {
		if b.bytes < total.bytes/20 {
			continue
		}
		seen++
		if d := math.Abs(float64(got[s]) - float64(b.bytes)); d > 5*math.Sqrt(b.variance) {
			name, _, _ := site.Read(s)
			t.Errorf("%s: %d bytes, want %d with a deviation of %.0f", name, got[s], b.bytes, math.Sqrt(b.variance))
		}
	}
	if seen < 5 {
		t.Errorf("only %d sites have a twentieth", seen)
	}
	if d := math.Abs(float64(sum) - float64(total.bytes)); d > 5*math.Sqrt(total.variance) {
		t.Errorf("all: %d bytes, want %d with a deviation of %.0f", sum, total.bytes, math.Sqrt(total.variance))
	}
	for _, p := range blocks {
		mustFree(t, 0, p)
	}
}

// TestProfileResize: a block that becomes larger or smaller where it is, is a free and an allocation; one whose size
// stays is neither.
func TestProfileResize(t *testing.T) {
	withProfile(t, 1, 1)
	p := Malloc(0, 1<<20)
	defer func() { mustFree(t, 0, p) }()
	for i, x := range []struct {
		size mem.Bytes
		want profile.Counts
	}{{512 << 10, profile.Counts{Allocs: 2, Frees: 1}}, {512 << 10, profile.Counts{Allocs: 2, Frees: 1}}, {600 << 10, profile.Counts{Allocs: 3, Frees: 2}}} {
		if ok := Resize(p, x.size, KeepAll); !ok {
			t.Fatalf("step %d: the block cannot have %d bytes where it is", i, x.size)
		}
		if got := profiledCounts(); got != x.want {
			t.Errorf("step %d: %+v, want %+v", i, got, x.want)
		}
	}
}

// TestProfileOfChunks: the chunks of Arenas are samples like other blocks, without live state of their own.
func TestProfileOfChunks(t *testing.T) {
	withProfile(t, 4096, 3)
	const n = 400
	var chunks []Block
	for range n {
		p, _ := Chunk(64<<10, 0)
		chunks = append(chunks, p)
	}
	mustBeNear(t, "chunks", profiledCounts().Live(), n, 1/profile.Rate(4096).Weight(64<<10))
	for _, p := range chunks {
		FreeChunk(p)
	}
	if got := profiledCounts(); got.Live() != 0 || got.Allocs == 0 {
		t.Errorf("all is freed: %+v", got)
	}
}

// TestNoProfile: without a rate nothing is drawn.
func TestNoProfile(t *testing.T) {
	withPolicy(t, nil)
	if policy.AtStart().ProfileRate != 0 || profiling() {
		t.Fatal("there is a profile by default")
	}
	p := Malloc(0, 3<<20)
	if mayBeDrawn(p) || ReadProfile(false) != nil && profiledCounts().Live() != 0 {
		t.Error("a block is a sample")
	}
	mustFree(t, 0, p)
}

// stackedBlock allocates a sample below depth calls of itself, so that each depth has a stack of its own.
//
//go:noinline
func stackedBlock(depth int) Block {
	if depth > 0 {
		p := stackedBlock(depth - 1)
		sink += int(p & 1) // not the last call, which could be a jump
		return p
	}
	return inlinedBlock()
}

// inlinedBlock is part of its caller's code.
func inlinedBlock() Block { return Block(Road.Malloc(48)) }

var sink int

// TestStackWalkedOnce: samples with a stack that is known need no runtime.Callers, and are counted for the right one:
// each stack has as many samples as there were blocks, and all its functions, also those that are inlined. That holds on
// a stack that has moved, and in the goroutines of other functions.
func TestStackWalkedOnce(t *testing.T) {
	withProfile(t, 1, 1)
	// No function counts as hakmem's own: those of this test would be cut off.
	profiled.table, profiled.blocks = profile.NewTable(1, func(string) bool { return false }, 0), map[Block]drawn{}
	const rounds, depths = 50, 6
	run := func() {
		for range rounds {
			for depth := range depths {
				Road.Free(unsafe.Pointer(ptr(mem.Addr(stackedBlock(depth)))))
			}
		}
	}
	done := make(chan bool)
	go func() { // its stack is small: it grows, and so moves, in deep
		defer close(done)
		run()
		deep(200)
		run()
	}()
	<-done
	counts := map[int]int64{} // by depth
	for _, s := range ReadProfile(false) {
		if s.Size != 48 {
			continue
		}
		depth, inlined := -1, 0
		for frames := runtime.CallersFrames(s.Stack); ; {
			f, more := frames.Next()
			switch {
			case strings.HasSuffix(f.Function, ".stackedBlock"):
				depth++
			case strings.HasSuffix(f.Function, ".inlinedBlock"):
				inlined++
			}
			if !more {
				break
			}
		}
		if depth < 0 {
			continue
		}
		if inlined != 1 {
			t.Errorf("depth %d: inlinedBlock is %d times in the stack", depth, inlined)
		}
		counts[depth] += s.Allocs
	}
	for depth := range depths {
		if counts[depth] != 2*rounds {
			t.Errorf("depth %d: %d samples, want %d", depth, counts[depth], 2*rounds)
		}
	}
	if canWalk := frames(make([]uintptr, 1)) != 0; !canWalk {
		t.Skip("skipped: walks: no frame pointers here")
	}
	// The first block of a stack may come from a slow path that the later ones do not take. A road that is new has a few.
	if most := uint64(2 * 4 * depths); profiled.stacks > most {
		t.Errorf("runtime.Callers was called for %d of %d samples, want at most %d", profiled.stacks, 2*rounds*depths, most)
	}
}

// deep uses a KiB of stack for each call.
//
//go:noinline
func deep(n int) byte {
	var room [1 << 10]byte
	if n > 0 {
		room[n] = deep(n - 1)
	}
	return room[n/2]
}
