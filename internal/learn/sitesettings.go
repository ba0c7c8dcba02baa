package learn

import (
	"fmt"
)

// SiteSettings is what a program sets for the blocks of a site besides their lane. None of it is learnt. The
// zero value sets nothing.
type SiteSettings struct {
	Touch     Touch   `json:",omitempty"`
	HoldScale float64 `json:",omitempty"` // the factor of a large block's hold time, or ReturnAtOnce; 0: 1
	WMax      float64 `json:",omitempty"` // the most times that a cached large block may be larger than asked for; 0: not set
	Class     uint64  `json:",omitempty"` // the bytes that a block has at least
}

// Touch is how fresh memory gets behind the pages of a block.
type Touch uint8

// The ways.
const (
	TouchAuto     Touch = iota // chosen for all blocks
	TouchFault                 // each page when it is first touched
	TouchPopulate              // all pages at once
	TouchHuge                  // in huge pages of the system
)

var touches = []string{"auto", "fault", "populate", "huge"}

func (t Touch) String() string { return nameOf(touches, t) }

// MarshalText returns the name of t.
func (t Touch) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the name of a way.
func (t *Touch) UnmarshalText(text []byte) error { return named(t, touches, "Touch", text) }

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
	case int(s.Touch) >= len(touches):
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
	if s.Touch == TouchAuto {
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
	if s.Touch != TouchAuto {
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
