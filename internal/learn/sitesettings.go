package learn

import (
	"fmt"
)

// SiteSettings is what a program sets for the blocks of a site besides their lane. The zero value sets nothing.
type SiteSettings struct {
	Touch     TouchRule `json:",omitempty"`
	HoldScale float64   `json:",omitempty"` // the factor of a large block's hold time, or ReturnAtOnce; 0: 1
	WMax      float64   `json:",omitempty"` // the most times that a cached large block may be larger than asked for; 0: not set
	Class     uint64    `json:",omitempty"` // the bytes that a block has at least
}

// TouchRule is a TouchArm that is set for the blocks of a site, or RuleAuto.
type TouchRule uint8

// The rules.
const (
	RuleAuto     TouchRule = iota // as for all blocks
	RuleFault                     // TouchFault
	RulePopulate                  // TouchPopulate
	RuleHuge                      // TouchHuge
)

const _ = uint(RuleHuge-nTouchArms) + uint(nTouchArms-RuleHuge) // there is one for each arm

var touchWords = []string{"auto", "fault", "populate", "huge"}

func (t TouchRule) String() string { return nameOf(touchWords, t) }

// MarshalText returns the name of t.
func (t TouchRule) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the name of a rule.
func (t *TouchRule) UnmarshalText(text []byte) error { return named(t, touchWords, "Touch", text) }

// Arm returns the arm that is set, if one is.
func (t TouchRule) Arm() (arm TouchArm, set bool) {
	if t == RuleAuto {
		return TouchFault, false
	}
	return TouchArm(t - RuleFault), true
}

// ReturnAtOnce is the HoldScale with which pages are not held at all.
const ReturnAtOnce = -1

const (
	// LeastHoldScale and MostHoldScale bound the factor. Hold times are 0.1 to 64 s: so it can make of the
	// longest one that of a tick or two, and of most of them an hour.
	LeastHoldScale, MostHoldScale = 0.01, 100
	// MostWMax bounds WMax: a block that wastes more than half of its memory is worse than none in a cache.
	MostWMax = 2
	// MostSiteClass is the size of the largest blocks that are cut from slabs, 32 KiB. Blocks above it grow in
	// place.
	MostSiteClass = 32 << 10
)

// Check returns an error that names the value and the remedy if s cannot be used.
func (s SiteSettings) Check() error {
	switch {
	case int(s.Touch) >= len(touchWords):
		return fmt.Errorf("Touch(%d): use TouchAuto, TouchFault, TouchPopulate or TouchHuge", s.Touch)
	case s.HoldScale != 0 && s.HoldScale != ReturnAtOnce && !(s.HoldScale >= LeastHoldScale && s.HoldScale <= MostHoldScale):
		return fmt.Errorf("HoldScale %g: use a factor from %g to %d, ReturnAtOnce (%d), or 0 for what is learnt", s.HoldScale, LeastHoldScale, MostHoldScale, ReturnAtOnce)
	case s.WMax != 0 && !(s.WMax >= 1 && s.WMax <= MostWMax):
		return fmt.Errorf("WMax %g: use a factor from 1 to %d, or 0 for what is set for all sites", s.WMax, MostWMax)
	case s.Class > MostSiteClass:
		return fmt.Errorf("a Class of %d bytes: use up to %d, or 0 for none", s.Class, MostSiteClass)
	}
	return nil
}

// Or returns s, and what o sets where s sets nothing.
func (s SiteSettings) Or(o SiteSettings) SiteSettings {
	if s.Touch == RuleAuto {
		s.Touch = o.Touch
	}
	if s.HoldScale == 0 {
		s.HoldScale = o.HoldScale
	}
	if s.WMax == 0 {
		s.WMax = o.WMax
	}
	if s.Class == 0 {
		s.Class = o.Class
	}
	return s
}

// Words returns each value that s sets with its name, for people. There are none if it sets nothing.
func (s SiteSettings) Words() (list []string) {
	if s.Touch != RuleAuto {
		list = append(list, "Touch "+s.Touch.String())
	}
	switch {
	case s.HoldScale == ReturnAtOnce:
		list = append(list, "HoldScale at once")
	case s.HoldScale != 0:
		list = append(list, fmt.Sprintf("HoldScale %g", s.HoldScale))
	}
	if s.WMax != 0 {
		list = append(list, fmt.Sprintf("WMax %g", s.WMax))
	}
	if s.Class != 0 {
		list = append(list, fmt.Sprintf("Class %d", s.Class))
	}
	return list
}
