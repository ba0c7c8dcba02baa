package hakmem

import (
	"fmt"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
)

// Site is a label for the purpose of an allocation. [RegisterSite] makes one. With HAKMEM_SITES=pc hakmem makes
// sites of the functions and lines that call it, with names such as example.com/store.(*Cache).Put:118, for a
// sample of the blocks that are allocated without one. RegisterSite returns the site of a caller by that name.
type Site uint32

// RegisterSite returns the site with the given name. The same name always gives the same site.
// There can be 65,535 sites; when all are taken, a new name gives 0, which means no site. Any
// goroutine may call it.
func RegisterSite(name string) Site { return Site(engine.RegisterSite(name)) }

// MallocAt is [Malloc] for a site: until it is freed, the block counts as alive under s in
// [ReadStats]. It costs a few tens of nanoseconds more than Malloc, and so does the free of the
// block. It returns nil when no memory is left.
//
// Site 0 means no site; any other site that RegisterSite did not return panics. Any goroutine may
// call it.
func MallocAt(s Site, size uintptr) unsafe.Pointer {
	mustBeSiteOrNone("MallocAt", s)
	shown := showAlloc("hakmem.MallocAt", size)
	p := engine.MallocAt(site.ID(s), mem.Bytes(size))
	shown.end(p == 0)
	return handOut('a', p, mem.Bytes(size), 0)
}

// mustBeSite panics in the name of op if s was not registered.
func mustBeSite(op string, s Site) {
	if !site.ID(s).Known() {
		panic(fmt.Sprintf("hakmem: %s: site %d was not registered: use the result of RegisterSite", op, s))
	}
}

// mustBeSiteOrNone is mustBeSite for a function that also takes 0, for no site.
func mustBeSiteOrNone(op string, s Site) {
	if s != 0 {
		mustBeSite(op, s)
	}
}

// Lane is where the blocks of a site go, among the slabs: pages from which blocks up to 32 KiB are cut.
// Blocks up to 4 KiB that live for long have slabs of their own. Otherwise a few of them would hold the
// memory of many others after these were freed.
type Lane int

// The lanes.
const (
	// LaneAuto lets hakmem learn for how long the blocks of a site live, by a sample of them.
	LaneAuto Lane = iota
	// LaneShort is the lane of blocks that are freed soon, and of all blocks without a site.
	LaneShort
	// LaneLong is the lane of blocks that live for long. To allocate or free one there takes some 100 ns.
	LaneLong
)

// String returns "auto", "short" or "long".
func (l Lane) String() string {
	switch l {
	case LaneAuto:
		return "auto"
	case LaneShort:
		return "short"
	case LaneLong:
		return "long"
	}
	return fmt.Sprintf("Lane(%d)", int(l))
}

// Touch is how memory gets behind the pages of a block that had none.
type Touch int

// The ways.
const (
	// TouchAuto lets hakmem choose, as for blocks without a site.
	TouchAuto Touch = iota
	// TouchFault leaves it to the system, which faults in each page when the program first touches it. It
	// suits blocks of which only a part is used.
	TouchFault
	// TouchPopulate asks the system for all pages at once. It suits blocks that are filled as a whole.
	TouchPopulate
	// TouchHuge asks the system for huge pages. It suits blocks of many MiB that live for long.
	TouchHuge
)

// String returns "auto", "fault", "populate" or "huge".
func (t Touch) String() string {
	if t < TouchAuto || t > TouchHuge {
		return fmt.Sprintf("Touch(%d)", int(t))
	}
	return learn.TouchRule(t).String()
}

// ReturnAtOnce is the HoldScale of blocks whose pages are not kept at all.
const ReturnAtOnce = learn.ReturnAtOnce

// SiteRule says how the blocks of a site are allocated. The zero value lets hakmem decide all of it. Each
// field stands for itself: a rule may set one and leave the lane to be learnt.
type SiteRule struct {
	// Lane is where the blocks go, up to 4 KiB. A wrong lane costs memory and nothing else.
	Lane Lane

	// Touch is how memory gets behind large blocks, those above 32 KiB.
	Touch Touch

	// HoldScale says for how long the pages of the site's large blocks keep their memory after the blocks
	// were freed: this times as long as is learnt, or as HAKMEM_KEEP says. It is 0.01 to 100, or
	// ReturnAtOnce, with which the next tick of the scavenger returns the memory, within a second; 0 means
	// 1. The pages have it until another block takes them. Such blocks are not cached for other sites, so
	// to allocate one takes some 100 ns; below 1 they are not cached at all. Blocks up to 32 KiB share
	// their pages with those of other sites, so that none of them has a hold time of its own.
	HoldScale float64

	// WMax is how many times as large as asked for a cached large block may be to serve an allocation, 1 to
	// 2; 0 leaves it at what is set for all.
	WMax float64

	// Class is the least size of the site's blocks in bytes, up to 32 KiB: a block for which fewer are asked
	// has so many, as UsableSize says, for example because it will grow there. 0 sets none. [GoodSize] knows
	// nothing of sites.
	Class uintptr
}

// SetSiteRule sets the rule for the blocks that are allocated at s from now on, in place of an earlier one;
// HoldScale holds for those that are freed from now on. Blocks that there are stay where they are. With
// HAKMEM_HARDEN or -asan it has no effect, nor has it on the blocks that HAKMEM_GUARD guards.
//
// It panics if s was not registered (site 0 has no rule), or if a field has no such value; then nothing has
// changed. Any goroutine may call it. It copies the rules of all sites.
func SetSiteRule(s Site, r SiteRule) {
	mustBeSite("SetSiteRule", s)
	switch {
	case r.Lane < LaneAuto || r.Lane > LaneLong:
		panic(fmt.Sprintf("hakmem: SetSiteRule: %v: use LaneAuto, LaneShort or LaneLong", r.Lane))
	case r.Touch < TouchAuto || r.Touch > TouchHuge:
		panic(fmt.Sprintf("hakmem: SetSiteRule: %v: use TouchAuto, TouchFault, TouchPopulate or TouchHuge", r.Touch))
	}
	err := engine.SetRule(site.ID(s), engine.Rule{
		Lane:         engine.Lane(r.Lane),
		SiteSettings: learn.SiteSettings{Touch: learn.TouchRule(r.Touch), HoldScale: r.HoldScale, WMax: r.WMax, Class: uint64(r.Class)},
	})
	if err != nil {
		panic("hakmem: SetSiteRule: " + err.Error())
	}
}

// ReadSiteRule returns the rule that SetSiteRule or a policy file (ImportPolicy) has set for s, and the
// lane, LaneShort or LaneLong, to which blocks of s go now. What was learnt of s is not in the rule.
//
// It panics if s was not registered. Any goroutine may call it.
func ReadSiteRule(s Site) (set SiteRule, now Lane) {
	mustBeSite("ReadSiteRule", s)
	r, long := engine.ReadRule(site.ID(s))
	if now = LaneShort; long {
		now = LaneLong
	}
	return SiteRule{Lane: Lane(r.Lane), Touch: Touch(r.Touch), HoldScale: r.HoldScale, WMax: r.WMax, Class: uintptr(r.Class)}, now
}
