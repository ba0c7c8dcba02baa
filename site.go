package hakmem

import (
	"fmt"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
)

// Site is a label for the purpose of an allocation. [RegisterSite] makes one.
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
	if s != 0 {
		mustBeSite("MallocAt", s)
	}
	return handOut('a', engine.MallocAt(site.ID(s), mem.Bytes(size)), mem.Bytes(size), 0)
}

// mustBeSite panics in the name of op if s was not registered.
func mustBeSite(op string, s Site) {
	if !site.ID(s).Known() {
		panic(fmt.Sprintf("hakmem: %s: site %d was not registered: use the result of RegisterSite", op, s))
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

// SiteRule says how the blocks of a site are allocated. The zero value lets hakmem decide all of it.
type SiteRule struct {
	// Lane is where the blocks go. A wrong lane costs memory and nothing else.
	Lane Lane
}

// SetSiteRule sets the rule for the blocks that are allocated at s from now on. Those that there are stay
// where they are. It has no effect on blocks above 4 KiB, and with HAKMEM_HARDEN or -asan on none.
//
// It panics if s was not registered (site 0 has no rule), or r is no rule. Any goroutine may call it.
func SetSiteRule(s Site, r SiteRule) {
	mustBeSite("SetSiteRule", s)
	if r.Lane < LaneAuto || r.Lane > LaneLong {
		panic(fmt.Sprintf("hakmem: SetSiteRule: %v: use LaneAuto, LaneShort or LaneLong", r.Lane))
	}
	engine.SetLane(site.ID(s), engine.Lane(r.Lane))
}

// ReadSiteRule returns the rule that SetSiteRule or a policy file (ImportPolicy) has set for s, and the
// lane, LaneShort or LaneLong, to which blocks of s go now.
//
// It panics if s was not registered. Any goroutine may call it.
func ReadSiteRule(s Site) (set SiteRule, now Lane) {
	mustBeSite("ReadSiteRule", s)
	lane, long := engine.LaneOf(site.ID(s))
	if now = LaneShort; long {
		now = LaneLong
	}
	return SiteRule{Lane: Lane(lane)}, now
}
