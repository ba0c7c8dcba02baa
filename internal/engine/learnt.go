package engine

import "github.com/hakmem/hakmem/internal/learn"

// This file hands out what was learnt, and takes it from a policy file. It has no state.

// Learnt returns what was learnt of free pages and of sites. Any goroutine, not entered.
func Learnt() learn.Snapshot {
	region.mu.Lock()
	defer region.mu.Unlock()
	s := keptModel().Snapshot()
	s.Sites = siteRules()
	return s
}

// Learn replaces what was learnt of free pages, and the imported rules of sites. What was learnt of sites
// in this process stays. It returns an error, and changes nothing, if s is damaged. Any goroutine, not
// entered.
func Learn(s learn.Snapshot) error {
	if err := restoreKept(s); err != nil {
		return err
	}
	importRules(s.Sites)
	return nil
}

// restoreKept is Learn for free pages.
func restoreKept(s learn.Snapshot) error {
	region.mu.Lock()
	defer region.mu.Unlock()
	return keptModel().Restore(s)
}
