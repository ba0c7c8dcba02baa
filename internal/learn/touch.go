package learn

import "math/bits"

// TouchArm is a way in which the memory of a FRESH block, one without memory, comes.
type TouchArm uint8

const (
	TouchFault    TouchArm = iota // with a page fault for each OS page, when the program touches it
	TouchPopulate                 // with one call of the system for the whole block, before the program has it
	TouchHuge                     // as TouchPopulate, with huge pages where the block has room for them
	nTouchArms    = iota
)

var touchArms = []string{"fault", "populate", "huge"}

func (a TouchArm) String() string { return nameOf(touchArms, a) }

// MarshalText returns the name of a.
func (a TouchArm) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the name of an arm.
func (a *TouchArm) UnmarshalText(text []byte) error {
	return named(a, touchArms, "way to fault in", text)
}

// TouchGroup is a group of blocks by their size in pages of the allocator: group g has those of 2^g pages
// and more, up to the next group.
type TouchGroup uint8

const (
	// TouchGroups is the number of groups. The last one, from 64 pages on, has no upper bound: what a call
	// costs besides its pages is lost among so many.
	TouchGroups = 7
	// hugeGroup is the first group of which blocks may be played with TouchHuge: one of 32 pages of 64 KiB
	// may be a huge page of 2 MiB.
	hugeGroup TouchGroup = 5
)

// TouchGroupOf returns the group of a block of so many pages, 1 or more.
func TouchGroupOf(pages uint) TouchGroup { return TouchGroup(min(bits.Len(pages), TouchGroups) - 1) }

// Pages returns the least number of pages of a block of the group.
func (g TouchGroup) Pages() uint { return 1 << g }

// arms returns how many arms can be played in the group.
func (g TouchGroup) arms() int {
	if g < hugeGroup {
		return int(TouchHuge)
	}
	return nTouchArms
}

// Touch learns how the memory of fresh blocks is best faulted in. There is a Bandit for each group of
// sizes, and one for each group of each of the SITES, places in the program, that allocate most fresh
// blocks. A site is a number; 0 is none.
//
// What a fault takes, or a call for each OS page of the block, is the median of the last measurements, so
// that those in which the thread was stopped do no harm. From it follow the costs: CPU seconds for each OS
// page that the program USES. One call for a block takes less for each page than faults do; but pages that
// come unasked are paid for, too, and are held for as long as the block lives. How many pages a program uses
// shows only where memory comes by faults. So plays of TouchFault tell the share of pages that are used, a
// mean in which older plays count less, and the costs of the other arms are calculated with it. Programs
// that use few pages of their blocks learn TouchFault.
//
// A Touch has no clock and no lock; it is for one goroutine at a time. With all of its sites it takes less
// than 64 KiB.
type Touch struct {
	groups  [TouchGroups]touchCell
	fault   recent                              // what a fault takes
	calls   [TouchGroups][nTouchArms - 1]recent // what TouchPopulate and TouchHuge take for an OS page
	sites   [touchSites]touchSite
	out     [nTouchArms]bool
	sited   uint32 // how many blocks with a site were seen, modulo 2^32
	name    func(site uint32) string
	expect  func(site uint32) TouchRule // see Expect; nil: nothing
	known   map[string]TouchSite        // what a TouchSnapshot says of sites that have had no place since
	changes []TouchChange
}

// touchCell is what is known of a group of sizes, of all sites or of one.
type touchCell struct {
	bandit *Bandit // nil: no block was seen
	used   float64 // the share of pages that the program uses
	looks  uint32  // how many plays said it
	blocks uint32  // how many blocks were seen, modulo 2^32
}

// touchSite is what is known of a site. count is how many blocks it has allocated lately more than sites
// that have no place.
type touchSite struct {
	site  uint32
	count uint32
	cells [TouchGroups]touchCell
}

// TouchChange says that another arm was adopted for a group of sizes, of a site or (0) of all.
type TouchChange struct {
	Site     uint32
	Group    TouchGroup
	From, To TouchArm
	Cost     float64 // of To: CPU seconds for a page that is used
}

const (
	// touchSites is how many sites have bandits of their own. With 32, all takes 60 KiB (TestTouchMemory).
	touchSites = 32
	// touchFade is after how many blocks with sites the counts of all sites are halved, so that one that
	// allocates no more makes room for others. A site of which one block in 100 is has some 40 blocks by
	// then, enough for its first plays.
	touchFade = 4096
	// firstTouches is how many plays there are before blocks are drawn for them: each block is one until
	// then. Two arms that differ by a half are told apart after some 10 (TestTouchLearns). One in
	// touchShare is a play later: to look at which pages of a block are resident takes as long as some ten
	// faults, a 16th of which is less than what a block of a page costs.
	firstTouches = 32
	touchShare   = 16
	// usedMemory is over how many plays the share of used pages is a mean: as many as decide in the
	// beginning.
	usedMemory = firstTouches
	// leastLooks is how many plays must have shown the share of used pages before another arm is played. With
	// 1, a first block of which little is used makes that arm dear for a hundred plays.
	leastLooks = 8
	// dearest bounds a cost, in faults: an arm that costs four times what faults do is as good as ruled out,
	// and one that costs a hundred times as much would hide the difference of the others.
	dearest = 4
	// mostTouchChanges bounds what is remembered until Changes: there are hardly as many in a minute.
	mostTouchChanges = 16
)

// NewTouch returns a Touch that has seen nothing. name returns the name of a site, by which policy files
// know it.
func NewTouch(name func(site uint32) string) *Touch { return &Touch{name: name} }

// Expect lets rule say how the memory of a site's fresh blocks is likely to come best, by what was learnt
// elsewhere. That holds for groups of which the site has too few plays here.
func (t *Touch) Expect(rule func(site uint32) TouchRule) { t.expect = rule }

// RuleOut says that an arm cannot be played here. TouchFault always can.
func (t *Touch) RuleOut(arm TouchArm) {
	if arm == TouchFault {
		return
	}
	t.out[arm] = true
	t.each(func(site uint32, g TouchGroup, c *touchCell) {
		if c.bandit != nil && int(arm) < c.bandit.Arms() {
			was := c.adopted()
			c.bandit.RuleOut(int(arm))
			t.changed(site, g, c, was)
		}
	})
}

// RuledOut reports whether an arm is ruled out.
func (t *Touch) RuledOut(arm TouchArm) bool { return t.out[arm] }

// each calls f for each cell.
func (t *Touch) each(f func(site uint32, g TouchGroup, c *touchCell)) {
	for g := range t.groups {
		f(0, TouchGroup(g), &t.groups[g])
	}
	for i := range t.sites {
		for g := range t.sites[i].cells {
			f(t.sites[i].site, TouchGroup(g), &t.sites[i].cells[g])
		}
	}
}

// touchRules returns the rules of the bandits. Plays are rare, so that the time after an adoption in which
// there is no other is as many plays as there are in the beginning: some 500 blocks. After one arm that is
// better than faults, one that is better still is found soon.
func touchRules() BanditRules {
	r := DefaultBanditRules()
	r.Cooldown = firstTouches
	return r
}

// cell makes the cell of a group ready for use.
func (t *Touch) cell(c *touchCell, g TouchGroup) *touchCell {
	if c.bandit == nil {
		c.bandit = NewBandit(g.arms(), touchRules())
		for arm := range c.bandit.Arms() {
			if t.out[arm] {
				c.bandit.RuleOut(arm)
			}
		}
	}
	return c
}

// adopted returns the adopted arm.
func (c *touchCell) adopted() TouchArm {
	if c.bandit == nil {
		return TouchFault
	}
	return TouchArm(c.bandit.Choice())
}

// next returns the arm to play next.
func (c *touchCell) next() TouchArm {
	if c.looks < leastLooks {
		return TouchFault
	}
	return TouchArm(c.bandit.Next())
}

// plays returns how many plays were counted.
func (c *touchCell) plays() (n uint64) {
	for arm := range c.bandit.Arms() {
		n += c.bandit.Plays(arm)
	}
	return n
}

// due reports whether the block that was counted last is to be a play. Multiples of the golden ratio spread
// evenly (Knuth vol. 3, 6.4): a program that does the same things in turns is not seen at the same turn only.
func (c *touchCell) due() bool {
	return c.plays() < firstTouches || c.blocks*2654435769 < 1<<32/touchShare
}

// find returns what is known of a site, or nil if it has no place. A site takes the place of one whose
// count is used up: each block of a site without a place takes one from the lowest count. So those that
// allocate most keep theirs (Misra, Gries, Finding repeated elements, 1982, whose rule takes one from all
// counts).
func (t *Touch) find(site uint32) *touchSite {
	if site == 0 {
		return nil
	}
	if t.sited++; t.sited%touchFade == 0 {
		for i := range t.sites {
			t.sites[i].count /= 2
		}
	}
	low := &t.sites[0]
	for i := range t.sites {
		s := &t.sites[i]
		if s.site == site {
			s.count++
			return s
		}
		if s.count < low.count {
			low = s
		}
	}
	if low.count > 0 {
		low.count--
		return nil
	}
	*low = touchSite{site: site, count: 1}
	t.meet(low)
	return low
}

// TouchDraw says whether a block is a PLAY, which is to be reported to Played.
type TouchDraw uint8

const (
	TouchNoPlay TouchDraw = iota
	TouchOfSite           // a play of the block's site
	TouchOfAll            // a play of all sites together, of which the site learns, too
)

// Next says how the memory of a fresh block is to come, and whether that is a play. If a play is never
// reported to Played, nothing is lost. best is the arm with the highest number that is possible for this block.
// There is no play without mayPlay.
//
// All sites together learn from plays of their own only, in which the arm does not depend on the site.
// Otherwise their plays of TouchFault would be mostly of those sites that use few pages.
func (t *Touch) Next(site uint32, g TouchGroup, best TouchArm, mayPlay bool) (TouchArm, TouchDraw) {
	all := t.cell(&t.groups[g], g)
	all.blocks++
	own, knows := all, all
	if s := t.find(site); s != nil {
		own = t.cell(&s.cells[g], g)
		own.blocks++
		if own.plays() >= firstTouches {
			knows = own
		}
	}
	if mayPlay && all.due() {
		if arm := all.next(); arm <= best {
			return arm, TouchOfAll
		}
	}
	if mayPlay && own != all && own.due() {
		if arm := own.next(); arm <= best {
			return arm, TouchOfSite
		}
	}
	arm := knows.adopted()
	if knows == all && site != 0 && t.expect != nil {
		if expected, is := t.expect(site).Arm(); is {
			arm = expected
		}
	}
	return t.Possible(arm, best), TouchNoPlay
}

// Possible returns arm if it can be used, for a block of which best is the arm with the highest number that
// is possible; else the next lower one that can.
func (t *Touch) Possible(arm, best TouchArm) TouchArm {
	for arm = min(arm, best); t.out[arm]; {
		arm--
	}
	return arm
}

// TouchPlay is what came of a play.
type TouchPlay struct {
	Site  uint32
	Group TouchGroup
	Arm   TouchArm
	Draw  TouchDraw
	Pages float64 // OS pages of the block
	Used  float64 // how many of them the program has used; of TouchFault only
	CPU   float64 // seconds: of TouchFault what a fault took; else what the call took
	Hold  float64 // CPU seconds: what it costs to hold an OS page for as long as the block lived
}

// Played counts a play.
func (t *Touch) Played(p TouchPlay) {
	if p.Pages < 1 || p.Draw == TouchNoPlay {
		return
	}
	if p.Arm == TouchFault {
		t.fault.add(p.CPU)
		p.CPU = t.fault.median()
	} else {
		calls := &t.calls[p.Group][p.Arm-1]
		calls.add(p.CPU / p.Pages)
		p.CPU = p.Pages * calls.median()
	}
	if p.Draw == TouchOfAll {
		t.played(0, &t.groups[p.Group], &p)
	}
	for i := range t.sites {
		if s := &t.sites[i]; p.Site != 0 && s.site == p.Site {
			t.played(p.Site, &s.cells[p.Group], &p)
		}
	}
}

// played counts a play in the cell of all sites or of the one.
func (t *Touch) played(site uint32, c *touchCell, p *TouchPlay) {
	t.cell(c, p.Group)
	cost := p.CPU
	switch {
	case p.Arm == TouchFault:
		c.looks++
		c.used += (p.Used/p.Pages - c.used) / float64(min(c.looks, usedMemory))
	case c.looks < leastLooks: // of the other arms nothing can be said
		return
	default:
		used := max(c.used*p.Pages, 1)
		cost = min((p.CPU+p.Hold*(p.Pages-used))/used, dearest*c.bandit.Mean(int(TouchFault)))
	}
	was := c.adopted()
	c.bandit.Played(int(p.Arm), cost)
	t.changed(site, p.Group, c, was)
}

// changed remembers that another arm than was is adopted, if so.
func (t *Touch) changed(site uint32, g TouchGroup, c *touchCell, was TouchArm) {
	if now := c.adopted(); now != was && len(t.changes) < mostTouchChanges {
		t.changes = append(t.changes, TouchChange{site, g, was, now, c.bandit.Mean(int(now))})
	}
}

// Changes calls f for the adoptions since the last call, as far as they are remembered.
func (t *Touch) Changes(f func(TouchChange)) {
	for _, c := range t.changes {
		f(c)
	}
	t.changes = t.changes[:0]
}

// Adopted calls f for each group, of all sites (0) and of each, for which another arm than TouchFault is
// in force.
func (t *Touch) Adopted(f func(site uint32, g TouchGroup, arm TouchArm)) {
	t.each(func(site uint32, g TouchGroup, c *touchCell) {
		if arm := c.adopted(); arm != TouchFault && (site == 0 || c.plays() >= firstTouches) {
			f(site, g, arm)
		}
	})
}

// Settled calls f for each site of which enough is known: with the way that suits all of its groups that were
// played enough, and how many plays these are. RuleAuto says that there is no such way: the groups differ, or
// one of them has not settled.
func (t *Touch) Settled(f func(site uint32, rule TouchRule, plays uint64)) {
	for i := range t.sites {
		if s := &t.sites[i]; s.site != 0 {
			if rule, plays := s.rule(); plays > 0 {
				f(s.site, rule, plays)
			}
		}
	}
}

// rule returns what Settled says of a site, with 0 plays if too little is known.
func (s *touchSite) rule() (rule TouchRule, plays uint64) {
	known := func(c *touchCell) bool { return c.bandit != nil && c.plays() >= firstTouches }
	most := TouchFault
	for g := range s.cells {
		if c := &s.cells[g]; known(c) {
			most = max(most, c.adopted())
			plays += c.plays()
		}
	}
	for g := range s.cells {
		c := &s.cells[g]
		if known(c) && (!c.bandit.Settled() || c.adopted() != min(most, TouchArm(TouchGroup(g).arms()-1))) {
			return RuleAuto, plays
		}
	}
	return RuleFault + TouchRule(most), plays
}
