package learn

import (
	"cmp"
	"fmt"
	"slices"
)

// SiteRule says how the blocks of a site are allocated, by the site's name. A Snapshot has rules for the
// sites that were judged, and for those for which the program has set something.
type SiteRule struct {
	Name string
	Long bool // the lane: apart, because they live for long
	// Samples is how many samples the lane was learnt from, 0 if the program has set it. Such a lane holds
	// whatever is learnt.
	Samples float64
	// NoLane says that the rule says nothing of the lane.
	NoLane bool `json:",omitempty"`
	SiteSettings
	// LearntTouch is how the memory of the site's large blocks comes best, as far as that was learnt, and
	// TouchPlays from how many plays. It is for processes that learn it, too; a Touch that is set comes before it.
	LearntTouch TouchRule `json:",omitempty"`
	TouchPlays  uint64    `json:",omitempty"`
}

// checkRules returns an error if rules could not be used.
func checkRules(rules []SiteRule) error {
	seen := map[string]bool{}
	for _, r := range rules {
		switch {
		case seen[r.Name]:
			return fmt.Errorf("learn: two rules for the site %q", r.Name)
		case !sensible(r.Samples):
			return fmt.Errorf("learn: the rule for the site %q has %g samples", r.Name, r.Samples)
		case r.NoLane && (r.Long || r.Samples != 0):
			return fmt.Errorf("learn: the rule for the site %q has a lane and says that it has none", r.Name)
		case int(r.LearntTouch) >= len(touchWords), (r.LearntTouch == RuleAuto) != (r.TouchPlays == 0), !sensible(float64(r.TouchPlays)):
			return fmt.Errorf("learn: the rule for the site %q has learnt the Touch %v from %d plays", r.Name, r.LearntTouch, r.TouchPlays)
		}
		if err := r.Check(); err != nil {
			return fmt.Errorf("learn: the rule for the site %q: %w", r.Name, err)
		}
		seen[r.Name] = true
	}
	return nil
}

// mergeRules returns the rules of both lists. Of two lanes of one site the one that the program has set
// counts, of two such lanes the first; otherwise the one with more samples, less the samples that
// contradict it, and so it is with the Touch that was learnt. Of two values of a setting the first counts.
func mergeRules(rules, others []SiteRule) []SiteRule {
	at := map[string]int{}
	merged := slices.Clone(rules)
	for i, r := range merged {
		at[r.Name] = i
	}
	for _, o := range others {
		i, both := at[o.Name]
		if !both {
			merged = append(merged, o)
			continue
		}
		r := &merged[i]
		r.SiteSettings = r.Or(o.SiteSettings)
		r.LearntTouch, r.TouchPlays = mergeLearntTouch(*r, o)
		switch {
		case o.NoLane:
		case r.NoLane, r.Samples != 0 && o.Samples == 0:
			r.Long, r.Samples, r.NoLane = o.Long, o.Samples, false
		case r.Samples == 0:
		case r.Long == o.Long:
			r.Samples += o.Samples
		case r.Samples < o.Samples:
			r.Long, r.Samples = o.Long, o.Samples-r.Samples
		default: // as many for both: a block in the wrong lane is fewer in the common one
			r.Long, r.Samples = r.Long && r.Samples > o.Samples, max(r.Samples-o.Samples, 1)
		}
	}
	SortRules(merged)
	return merged
}

// mergeLearntTouch is mergeRules for the Touch that was learnt.
func mergeLearntTouch(r, o SiteRule) (rule TouchRule, plays uint64) {
	a, b := r.TouchPlays, o.TouchPlays
	switch {
	case r.LearntTouch == o.LearntTouch:
		return r.LearntTouch, a + b
	case a > b:
		return r.LearntTouch, a - b
	case b > a:
		return o.LearntTouch, b - a
	}
	return min(r.LearntTouch, o.LearntTouch), 1 // as many for both: what brings less memory
}

// SortRules brings rules into the order of their names.
func SortRules(rules []SiteRule) {
	slices.SortFunc(rules, func(a, b SiteRule) int { return cmp.Compare(a.Name, b.Name) })
}
