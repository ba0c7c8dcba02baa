package learn

import (
	"cmp"
	"fmt"
	"slices"
)

// SiteRule says where the blocks of a site go, by the site's name. A Snapshot has rules for the sites that
// were judged.
type SiteRule struct {
	Name string
	Long bool // apart, because they live for long
	// Samples is how many samples the rule was learnt from, 0 if the program has set it. Such a rule holds
	// whatever is learnt.
	Samples float64
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
		}
		seen[r.Name] = true
	}
	return nil
}

// mergeRules returns the rules of both lists. Of two rules for one site the one that the program has set
// counts, of two such rules the first; otherwise the one with more samples, less the samples that
// contradict it.
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
		switch r := &merged[i]; {
		case r.Samples == 0:
		case o.Samples == 0:
			*r = o
		case r.Long == o.Long:
			r.Samples += o.Samples
		case r.Samples < o.Samples:
			*r = SiteRule{r.Name, o.Long, o.Samples - r.Samples}
		default: // as many for both: a block in the wrong lane is fewer in the common one
			*r = SiteRule{r.Name, r.Long && r.Samples > o.Samples, max(r.Samples-o.Samples, 1)}
		}
	}
	SortRules(merged)
	return merged
}

// SortRules brings rules into the order of their names.
func SortRules(rules []SiteRule) {
	slices.SortFunc(rules, func(a, b SiteRule) int { return cmp.Compare(a.Name, b.Name) })
}
