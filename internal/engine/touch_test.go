package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/testkit"
)

// forgetTouch begins anew with fresh blocks.
func forgetTouch() {
	region.mu.Lock()
	defer region.mu.Unlock()
	forgetTouches()
	touches.model, touches.failures = nil, [2]int{}
	touches.hugeKnown.Store(false)
}

// withTouch puts a value of HAKMEM_TOUCH in force for the test, with a model that has learnt nothing. Huge
// blocks are not cached.
func withTouch(t *testing.T, value policy.Touch) *testkit.Clock {
	t.Helper()
	c := withClock(t)
	tune(t, func(p *policy.Tuning) { p.Touch, p.HugeCacheBytes = value, 0 })
	forgetTouch()
	t.Cleanup(func() {
		osmem.Inject(nil)
		forgetTouch()
	})
	return c
}

// populates skips the test where memory cannot be brought with a call.
func populates(t *testing.T) {
	t.Helper()
	p := Malloc(0, 64<<10)
	err := osmem.Populate(mem.Addr(p), 64<<10)
	freeBlocks(t, []Block{p})
	if osmem.CannotPopulate(err) {
		t.Skip("skipped: ", err)
	}
	Trim()
}

// withHugePagesOff makes the engine believe, for the test, that the system makes no huge pages.
func withHugePagesOff(t *testing.T) {
	t.Helper()
	t.Cleanup(set(&hugePageMode, func() string { return "never" }))
}

// timed makes each call that brings memory take as long on the clock.
func timed(c *testkit.Clock, d time.Duration) {
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpPopulate {
			c.Skip(d)
		}
		return nil
	})
}

// write writes to every n-th OS page of a block.
func write(p Block, size mem.Bytes, n mem.Bytes) {
	for i := mem.Bytes(0); i < size; i += n * osmem.PageSize() {
		*u8(p.addr().Add(i)) = 1
	}
}

// adoptedFor returns the arm in force for blocks of so many bytes, of a site or (0) of all.
func adoptedFor(s site.ID, size mem.Bytes) (arm learn.TouchArm) {
	region.mu.Lock()
	defer region.mu.Unlock()
	touchModel().Adopted(func(of uint32, g learn.TouchGroup, a learn.TouchArm) {
		if of == uint32(s) && g == touchGroup(size) {
			arm = a
		}
	})
	return arm
}

// waiting returns how many samples there are, by the counts and in the table.
func waiting() (counted, there int) {
	region.mu.Lock()
	defer region.mu.Unlock()
	for _, n := range touches.waiting {
		counted += n
	}
	for i := range touchSamples {
		if touchSamples[i].at.Load() != 0 {
			there++
		}
	}
	return counted, there
}

// TestTouchLearnt: a program that uses its fresh blocks gets their memory with calls where these cost less
// than faults, one that uses little of them never does, and neither does one whose calls cost more.
func TestTouchLearnt(t *testing.T) {
	needsLook(t)
	if !maySample || tracked {
		t.Skip("skipped: this build learns nothing of fresh blocks")
	}
	populates(t)
	fault := learn.TypicalMachine.Fault // the clock stands still meanwhile, so that it is not measured
	for _, test := range []struct {
		name  string
		size  mem.Bytes
		every mem.Bytes     // one OS page in so many is used
		share float64       // what a call takes for an OS page, as a share of a fault
		lives time.Duration // a block
		want  bool          // a call is learnt
	}{
		{"all is used", 64 << 10, 1, 0.5, 0, true},
		{"all is used, above 2 MiB", 3*mebibyte + 5000, 1, 0.5, 0, true},
		{"all is used, for long", 200_000, 1, 0.5, 3 * time.Second, true},
		{"a tenth is used", mebibyte, 10, 0.5, 0, false},
		{"half is used, for long", mebibyte, 2, 0.4, 3 * time.Second, false},
		{"calls are dear", 64 << 10, 1, 1.5, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			withHugePagesOff(t)
			c := withTouch(t, policy.TouchAuto)
			pages := float64(test.size.Up(osmem.PageSize()) / osmem.PageSize())
			timed(c, time.Duration(test.share*fault*pages*1e9))
			blocks := touched.blocks.Load()
			for range 60 {
				p := Malloc(0, test.size)
				write(p, test.size, test.every)
				c.Skip(test.lives)
				freeBlocks(t, []Block{p})
				Trim()
			}
			if counted, there := waiting(); counted != 0 || there != 0 {
				t.Errorf("%d samples are left, %d counted", there, counted)
			}
			if got := adoptedFor(0, test.size); (got == learn.TouchPopulate) != test.want {
				t.Errorf("%v is adopted", got)
			}
			n := touched.blocks.Load() - blocks
			if most := uint64(20); n == 0 || !test.want && n > most {
				t.Errorf("memory came with calls to %d of 60 blocks", n)
			}
			mustHold(t)
		})
	}
}

// TestTouchSitesLearn: two sites with blocks of one size learn apart, by their labels; one with rare
// blocks gets what is good for all.
func TestTouchSitesLearn(t *testing.T) {
	needsLook(t)
	if !maySample || tracked {
		t.Skip("skipped: this build learns nothing of fresh blocks")
	}
	populates(t)
	c := withTouch(t, policy.TouchAuto)
	const size = 256 << 10
	timed(c, time.Duration(0.5*learn.TypicalMachine.Fault*size/4096*1e9))
	full, sparse := RegisterSite("fresh blocks that are used"), RegisterSite("fresh blocks that are not used")
	for i := range 150 {
		s, every := full, mem.Bytes(1)
		if i%3 == 0 {
			s, every = sparse, 50
		}
		p := MallocAt(s, size)
		write(p, size, every)
		freeBlocks(t, []Block{p})
		Trim()
	}
	if a, b := adoptedFor(full, size), adoptedFor(sparse, size); a != learn.TouchPopulate || b != learn.TouchFault {
		t.Errorf("the site that uses its blocks has %v, the other one %v", a, b)
	}
	mustHold(t)
}

// TestTouchRefused: whatever the system refuses, blocks are there and read as zero, no error is reported,
// and what cannot work is soon not tried any more.
func TestTouchRefused(t *testing.T) {
	populates(t)
	for _, test := range []struct {
		name  string
		value policy.Touch
		op    osmem.Op
		err   error
		most  uint64 // calls that fail
	}{
		{"the system cannot", policy.TouchPopulate, osmem.OpPopulate, fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrNotSupported), 1},
		{"no memory", policy.TouchPopulate, osmem.OpPopulate, osmem.ErrInjected, mostFailures},
		{"no memory, huge pages", policy.TouchHuge, osmem.OpPopulate, osmem.ErrInjected, mostFailures},
		{"no huge pages", policy.TouchHuge, osmem.OpAdvise, osmem.ErrInjected, mostFailures},
		{"no looks", policy.TouchAuto, osmem.OpResident, osmem.ErrInjected, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			withTouch(t, test.value)
			forgetSurvived(t)
			var blocks []Block
			failures, before := osmem.Failed(), touched.blocks.Load()
			osmem.Inject(func(op osmem.Op) error {
				if op == test.op {
					return test.err
				}
				return nil
			})
			for range 20 {
				p := Malloc(0, 5*mebibyte)
				blocks = append(blocks, p)
				if string(memory(p, 4096)) != zeroBytes {
					t.Fatal("a fresh block does not read as zero")
				}
				write(p, 5*mebibyte, 1)
				if test.value == policy.TouchAuto { // else there is nothing to look at
					freeBlocks(t, blocks)
					blocks = nil
					Trim()
				}
			}
			osmem.Inject(nil)
			if n := osmem.Failed() - failures; n > test.most || test.most == 1 && n != 1 {
				t.Errorf("%d calls failed, want at most %d", n, test.most)
			}
			came := touched.blocks.Load() - before
			if want := test.op == osmem.OpAdvise; (came > 0) != want {
				t.Errorf("memory came with calls to %d blocks", came)
			}
			if errs := Survived(); len(errs) > 0 {
				t.Errorf("errors are reported: %v", errs)
			}
			freeBlocks(t, blocks)
			if test.value == policy.TouchAuto {
				if arm := adoptedFor(0, 5*mebibyte); arm != learn.TouchFault {
					t.Errorf("without looks %v is adopted", arm)
				}
			}
			mustHold(t)
		})
	}
}

// TestTouchNot: to which blocks no memory comes before they are touched.
func TestTouchNot(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // another P has another magazine
	populates(t)
	withTouch(t, policy.TouchPopulate)
	came := func(do func() Block) bool {
		t.Helper()
		before := touched.blocks.Load()
		if p := do(); p != 0 {
			freeBlocks(t, []Block{p})
		}
		return touched.blocks.Load() > before
	}
	fresh := func() Block { Trim(); return Malloc(0, mebibyte) }
	if !came(fresh) {
		t.Error("none comes to a fresh block")
	}
	if !came(func() Block { Trim(); return MallocZero(0, 3*mebibyte) }) {
		t.Error("none comes to a fresh block that is to be zero")
	}
	if came(func() Block { Trim(); return Malloc(0, mostTouched+1) }) {
		t.Error("memory comes to a very large block")
	}
	if came(func() Block { return Malloc(0, 32<<10) }) {
		t.Error("memory comes to a slab")
	}
	if came(func() Block {
		Trim()
		p, _ := Chunk(mebibyte, 0)
		FreeChunk(p)
		return 0
	}) {
		t.Error("memory comes to an Arena's chunk")
	}
	for _, size := range []mem.Bytes{mebibyte, 3 * mebibyte} { // from the magazine, and from free pages
		Trim()
		p := Malloc(0, size)
		if came(func() Block { freeBlocks(t, []Block{p}); return Malloc(0, size) }) {
			t.Errorf("memory comes to a block of %d bytes that has it", size)
		}
	}
	q := Malloc(0, 16*mebibyte)
	Trim()
	now := uint64(counted.Load())
	then := now + mebibyte/2 // reached with the next block: 7/8 of the soft limit, and 3/4 of the hard one
	for _, limit := range []struct{ soft, hard uint64 }{{then / 7 * 8, 0}, {0, then / 3 * 4}} {
		withLimit(t, limit.soft, limit.hard)
		if came(fresh) {
			t.Errorf("memory comes near the limits %+v, of which %d bytes are used", limit, now)
		}
		noLimit(t)
	}
	freeBlocks(t, []Block{q})
	tune(t, func(p *policy.Tuning) { p.Touch = policy.TouchFault })
	if came(fresh) {
		t.Error("memory comes although the setting does not ask for it")
	}
}

// TestTouchRuleLearnt: what a site has learnt is in its rule when it has settled. Another process that learns
// begins with it, also with sizes that were not seen; what is set here comes first, and so do plays of its own.
func TestTouchRuleLearnt(t *testing.T) {
	needsLook(t)
	if !maySample || tracked || region.huge {
		t.Skip("skipped: this build learns nothing of fresh blocks, or the system makes huge pages by itself")
	}
	populates(t)
	withHugePagesOff(t)
	c := withTouch(t, policy.TouchAuto)
	forgetRules(t)
	const size = 256 << 10
	timed(c, time.Duration(0.5*learn.TypicalMachine.Fault*size/4096*1e9))
	s, other := RegisterSite(t.Name()+": site"), RegisterSite(t.Name()+": other")
	use := func(s site.ID, n int, every mem.Bytes) {
		for range n {
			p := MallocAt(s, size)
			write(p, size, every)
			freeBlocks(t, []Block{p})
			Trim()
		}
	}
	rule := func() (r learn.SiteRule) {
		for _, r := range ours(t, Learnt().Sites) {
			if r.Name == t.Name()+": site" {
				return r
			}
		}
		return r
	}
	use(s, 20, 1)
	if r := rule(); r.Name != "" {
		t.Errorf("after 20 blocks there is the rule %+v", r)
	}
	use(s, 1000, 1)
	r := rule()
	if r.LearntTouch != learn.RulePopulate || r.TouchPlays < 64 || !r.NoLane || r.Touch != learn.RuleAuto {
		t.Fatalf("after 1020 blocks the rule is %+v", r)
	}
	if set, _ := ReadRule(s); set != (Rule{}) {
		t.Errorf("what was learnt is said to be set: %+v", set)
	}
	// Another process, which knows the rules and no bandits.
	file := Learnt()
	file.Touch, file.Sites = nil, []learn.SiteRule{r}
	begin := func() {
		t.Helper()
		forgetTouch()
		if err := Learn(file); err != nil {
			t.Fatal(err)
		}
	}
	comes := func(s site.ID, size mem.Bytes) bool {
		before := touched.blocks.Load()
		freeBlocks(t, []Block{MallocAt(s, size)})
		Trim()
		return touched.blocks.Load() > before
	}
	begin()
	tune(t, func(p *policy.Tuning) { p.Evo = learn.EvolutionFrozen })
	if !comes(s, size) || !comes(s, 3*mebibyte) || comes(other, size) || comes(0, size) {
		t.Error("the rule does not hold for the site's blocks, or for others")
	}
	if got := rule(); got != r {
		t.Errorf("exported: %+v, want %+v", got, r)
	}
	if err := SetRule(s, Rule{SiteSettings: learn.SiteSettings{Touch: learn.RuleFault}}); err != nil {
		t.Fatal(err)
	}
	if comes(s, size) {
		t.Error("what the program has set does not come first")
	}
	if got := rule(); got.Touch != learn.RuleFault || got.LearntTouch != learn.RulePopulate {
		t.Errorf("with a rule that is set: %+v", got)
	}
	if err := SetRule(s, Rule{}); err != nil {
		t.Fatal(err)
	}
	tune(t, func(p *policy.Tuning) { p.Touch = policy.TouchFault })
	if comes(s, size) {
		t.Error("the rule holds where nothing is learnt of fresh blocks")
	}
	tune(t, func(p *policy.Tuning) { p.Touch, p.Evo = policy.TouchAuto, learn.EvolutionLearn })
	begin()
	use(s, 1000, 50)
	tune(t, func(p *policy.Tuning) { p.Evo = learn.EvolutionFrozen }) // so that no block is a play
	if got := rule(); got.LearntTouch != learn.RuleFault || comes(s, size) {
		t.Errorf("the program uses a 50th of its blocks, and the rule is %+v", got)
	}
	mustHold(t)
}

// TestTouchFrozen: where nothing is learnt there are no plays, and what was adopted stays in force.
func TestTouchFrozen(t *testing.T) {
	if !learning {
		t.Skip("skipped: this build learns nothing")
	}
	populates(t)
	withTouch(t, policy.TouchAuto)
	s := learn.NewTouch(func(uint32) string { return "" })
	g := touchGroup(mebibyte)
	for range 12 { // so few that each block would be a play
		for arm := range learn.TouchHuge {
			s.Played(learn.TouchPlay{Group: g, Arm: arm, Draw: learn.TouchOfAll, Pages: 256, Used: 256, CPU: []float64{1e-6, 100e-6}[arm]})
		}
	}
	all := Learnt()
	known := s.Snapshot()
	all.Touch = &known
	if err := Learn(all); err != nil {
		t.Fatal(err)
	}
	tune(t, func(p *policy.Tuning) { p.Evo = learn.EvolutionFrozen })
	before := touched.blocks.Load()
	for range 5 {
		freeBlocks(t, []Block{Malloc(0, mebibyte)})
		Trim()
	}
	if n := touched.blocks.Load() - before; n != 5 {
		t.Errorf("memory came to %d of 5 blocks", n)
	}
	again := Learnt().Touch
	if fmt.Sprint(*again.Groups[g].Bandit) != fmt.Sprint(*known.Groups[g].Bandit) {
		t.Errorf("plays were counted: %+v, before %+v", again.Groups[g].Bandit, known.Groups[g].Bandit)
	}
	state, ok := LearnerState()
	if want := (learn.TouchInForce{Where: learn.TouchWhere(0, g), Arm: learn.TouchPopulate}); !ok || len(state.Touch) != 1 || state.Touch[0] != want {
		t.Errorf("reported: %+v", state.Touch)
	}
	tune(t, func(p *policy.Tuning) { p.Evo = learn.EvolutionOff })
	before = touched.blocks.Load()
	freeBlocks(t, []Block{Malloc(0, mebibyte)})
	if touched.blocks.Load() != before {
		t.Error("what was learnt is used although nothing is to be")
	}
}

// TestTouchTold: what is adopted is in the log of decisions.
func TestTouchTold(t *testing.T) {
	if !learning {
		t.Skip("skipped: this build learns nothing")
	}
	c := withTouch(t, policy.TouchAuto)
	c.Advance(5 * time.Second)
	region.mu.Lock()
	for range 40 {
		for arm := range learn.TouchHuge {
			touchModel().Played(learn.TouchPlay{Group: 2, Arm: arm, Draw: learn.TouchOfAll, Pages: 64, Used: 64, CPU: []float64{1e-6, 20e-6}[arm]})
		}
	}
	region.mu.Unlock()
	freeBlocks(t, fillBytes(t, mebibyte, mebibyte)) // so that there are ticks
	c.Advance(5 * time.Second)
	state, _ := LearnerState()
	for _, d := range state.Decisions {
		if d.Kind == learn.KindTouch && d.Where == learn.TouchWhere(0, 2) && d.To == float64(learn.TouchPopulate) {
			return
		}
	}
	t.Errorf("decisions: %+v", state.Decisions)
}

// TestTouchSampleEnds: a sample ends with whatever becomes of its block, and nothing is learnt from one
// whose block has changed.
func TestTouchSampleEnds(t *testing.T) {
	if !maySample {
		t.Skip("skipped: this build makes no samples")
	}
	needsLook(t)
	looks := func() (n uint32) {
		region.mu.Lock()
		defer region.mu.Unlock()
		for _, g := range touchModel().Snapshot().Groups {
			n += g.Looks
		}
		return n
	}
	for _, test := range []struct {
		name   string
		size   mem.Bytes
		learnt bool
		end    func(t *testing.T, c *testkit.Clock, p Block) (left Block)
	}{
		{"free", mebibyte, true, func(t *testing.T, _ *testkit.Clock, p Block) Block { freeBlocks(t, []Block{p}); return 0 }},
		{"free of a huge block", 5 * mebibyte, true, func(t *testing.T, _ *testkit.Clock, p Block) Block { freeBlocks(t, []Block{p}); return 0 }},
		{"free by a Heap", mebibyte, true, func(t *testing.T, _ *testkit.Clock, p Block) Block {
			if bad := Free(heapFront(t), p); bad.Kind != OK {
				t.Error(bad)
			}
			return 0
		}},
		{"smaller", 5 * mebibyte, false, func(t *testing.T, _ *testkit.Clock, p Block) Block { Resize(p, mebibyte, KeepAll); return p }},
		{"larger", mebibyte, false, func(t *testing.T, _ *testkit.Clock, p Block) Block { Resize(p, 5*mebibyte, KeepAll); return p }},
		{"moved", 5 * mebibyte, false, func(t *testing.T, _ *testkit.Clock, p Block) Block {
			q, old, can := Move(0, p, 40*mebibyte, 1, KeepAll)
			if !can || q == 0 {
				t.Fatal("the block does not move")
			}
			if isTouchSample(p) {
				t.Error("the sample has no memory any more, and may be looked at")
			}
			old.Free()
			return q
		}},
		{"old", mebibyte, true, func(t *testing.T, c *testkit.Clock, p Block) Block {
			if c.Advance(3 * time.Second); looks() != 0 {
				t.Error("a young sample was looked at")
			}
			c.Advance(2 * time.Second)
			return p
		}},
		{"another clock", mebibyte, false, func(t *testing.T, c *testkit.Clock, p Block) Block { SetClock(&testkit.Clock{}); return p }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := withTouch(t, policy.TouchAuto)
			p := Malloc(0, test.size)
			write(p, test.size, 1)
			if counted, there := waiting(); counted != 1 || there != 1 || !isTouchSample(p) {
				t.Fatalf("%d samples, %d counted", there, counted)
			}
			if at, m, _, _ := liveByte(p); state(at) == liveState(m.class) {
				t.Error("the free of a sample takes the fast path")
			}
			left := test.end(t, c, p)
			if counted, there := waiting(); counted != 0 || there != 0 {
				t.Errorf("%d samples are left, %d counted", there, counted)
			}
			if n := looks(); n != map[bool]uint32{true: 1}[test.learnt] {
				t.Errorf("%d looks", n)
			}
			mustHold(t)
			if left != 0 {
				freeBlocks(t, []Block{left})
			}
		})
	}
}

// TestTouchWaiting: a program that frees nothing has few samples.
func TestTouchWaiting(t *testing.T) {
	if !maySample {
		t.Skip("skipped: this build makes no samples")
	}
	withTouch(t, policy.TouchAuto)
	var blocks []Block
	for range 200 {
		blocks = append(blocks, Malloc(0, 64<<10))
	}
	if counted, there := waiting(); counted != there || there != mostWaiting {
		t.Errorf("%d samples, %d counted, want %d", there, counted, mostWaiting)
	}
	freeBlocks(t, blocks)
}

// TestTouchDoubleFree: a second free of a sample is found.
func TestTouchDoubleFree(t *testing.T) {
	if !maySample {
		t.Skip("skipped: this build makes no samples")
	}
	for _, size := range []mem.Bytes{64 << 10, mebibyte, 5 * mebibyte} {
		withTouch(t, policy.TouchAuto)
		p := Malloc(0, size)
		if !isTouchSample(p) {
			t.Fatal("the block is no sample")
		}
		freeBlocks(t, []Block{p})
		if bad := Free(0, p); bad.Kind != Freed {
			t.Errorf("%d bytes: a second free is %+v", size, bad)
		}
	}
}

// TestTouchMany: goroutines allocate, change and free blocks of all sizes while all arms are played.
// Nobody loses what it has written, and the books are right afterwards.
func TestTouchMany(t *testing.T) {
	for _, value := range []policy.Touch{policy.TouchAuto, policy.TouchPopulate, policy.TouchHuge} {
		c := withTouch(t, value)
		tune(t, func(p *policy.Tuning) { p.MagLargeBytes, p.SharedSlots = 0, 0 })
		var sites []site.ID
		for i := range 5 {
			sites = append(sites, RegisterSite(fmt.Sprintf("many fresh blocks %d", i)))
		}
		rounds := 150
		if testing.Short() || raced {
			rounds = 50
		}
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(7, uint64(g)))
				var blocks [4]Block
				for i := range rounds {
					b := &blocks[rng.IntN(len(blocks))]
					if *b != 0 {
						if *u8(b.addr()) != uint8(g+1) {
							t.Errorf("a block has lost its contents")
							return
						}
						if rng.IntN(3) == 0 {
							Resize(*b, 64<<10<<rng.IntN(8), KeepAll)
						}
						if bad := Free(0, *b); bad.Kind != OK {
							t.Error(bad)
							return
						}
						*b = 0
					}
					size := mem.Bytes(64<<10 + rng.IntN(64<<10)<<rng.IntN(7))
					if rng.IntN(2) == 0 {
						*b = Malloc(0, size)
					} else {
						*b = MallocAt(sites[rng.IntN(len(sites))], size)
					}
					write(*b, size, 1+mem.Bytes(rng.IntN(9)))
					*u8(b.addr()) = uint8(g + 1)
					if i%16 == 0 {
						Trim()
					}
				}
				for _, b := range blocks {
					if b != 0 {
						Free(0, b)
					}
				}
			})
		}
		wg.Wait()
		c.Advance(6 * time.Second)
		if counted, there := waiting(); counted != there {
			t.Errorf("%d samples, %d counted", there, counted)
		}
		mustHold(t)
	}
}
