package learn

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// TestSiteSettings: what cannot be used is refused with its value and a remedy, and what is at the bounds is
// not.
func TestSiteSettings(t *testing.T) {
	for _, c := range []struct {
		s    SiteSettings
		says string // of the error; "": there is none
	}{
		{SiteSettings{}, ""},
		{someSettings, ""},
		{SiteSettings{RuleFault, LeastHoldScale, 1, MostSiteClass}, ""},
		{SiteSettings{RulePopulate, MostHoldScale, MostWMax, 1}, ""},
		{SiteSettings{HoldScale: ReturnAtOnce}, ""},
		{SiteSettings{Touch: 4}, "Touch(4): use TouchAuto"},
		{SiteSettings{HoldScale: 0.009}, "HoldScale 0.009: use a factor from 0.01 to 100"},
		{SiteSettings{HoldScale: 100.5}, "HoldScale 100.5"},
		{SiteSettings{HoldScale: -2}, "HoldScale -2"},
		{SiteSettings{HoldScale: math.NaN()}, "HoldScale NaN"},
		{SiteSettings{WMax: 0.99}, "WMax 0.99: use a factor from 1 to 2"},
		{SiteSettings{WMax: 2.01}, "WMax 2.01"},
		{SiteSettings{WMax: math.Inf(1)}, "WMax +Inf"},
		{SiteSettings{Class: 32<<10 + 1}, "a Class of 32769 bytes: use up to 32768"},
	} {
		switch err := c.s.Check(); {
		case c.says == "" && err != nil:
			t.Errorf("%+v: %v", c.s, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%+v: %v, want it to say %q", c.s, err, c.says)
		}
	}
}

// TestSettingsInWords: each value that is set is in the words, and nothing else.
func TestSettingsInWords(t *testing.T) {
	for _, c := range []struct {
		s    SiteSettings
		want []string
	}{
		{SiteSettings{}, nil},
		{someSettings, []string{"Touch huge", "HoldScale 0.5", "WMax 1.25", "Class 96"}},
		{SiteSettings{HoldScale: ReturnAtOnce}, []string{"HoldScale at once"}},
	} {
		if got := c.s.Words(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.s, got, c.want)
		}
	}
}
