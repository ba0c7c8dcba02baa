package learn

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// TouchSnapshot is what a Touch has learnt, in a form that can be stored and given to another Touch. It
// says nothing about which arms are ruled out: that depends on the machine.
type TouchSnapshot struct {
	Groups []TouchCell // TouchGroups of them, of all sites
	Sites  []TouchSite `json:",omitempty"` // in the order of their names
}

// TouchSite is what is known of a site, by its name.
type TouchSite struct {
	Name   string
	Groups []TouchCell // TouchGroups of them
}

// TouchCell is what is known of a group of sizes.
type TouchCell struct {
	Bandit *BanditSnapshot `json:",omitempty"` // nil: nothing is known
	Used   float64         // the share of pages that the program uses
	Looks  uint32          // how many plays said it
}

// Snapshot returns what t has learnt. It allocates.
func (t *Touch) Snapshot() TouchSnapshot {
	s := TouchSnapshot{Groups: snapshotCells(&t.groups)}
	met := map[string]bool{}
	for i := range t.sites {
		if t.sites[i].site == 0 {
			continue
		}
		// A file is JSON, which has no other names.
		if name := t.name(t.sites[i].site); utf8.ValidString(name) {
			met[name] = true
			s.Sites = append(s.Sites, TouchSite{name, snapshotCells(&t.sites[i].cells)})
		}
	}
	for name, k := range t.known {
		if !met[name] && len(s.Sites) < touchSites {
			s.Sites = append(s.Sites, k)
		}
	}
	slices.SortFunc(s.Sites, func(a, b TouchSite) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

func snapshotCells(cells *[TouchGroups]touchCell) (list []TouchCell) {
	for i := range cells {
		c := TouchCell{Used: cells[i].used, Looks: cells[i].looks}
		if b := cells[i].bandit; b != nil {
			of := b.Snapshot()
			c.Bandit = &of
		}
		list = append(list, c)
	}
	return list
}

// Restore replaces what t has learnt. What s says of a site holds as soon as the site has a place. If s is
// damaged, Restore returns an error and changes nothing.
func (t *Touch) Restore(s TouchSnapshot) error {
	if err := s.check(); err != nil {
		return err
	}
	t.known = map[string]TouchSite{}
	for _, k := range s.Sites {
		t.known[k.Name] = k
	}
	t.restoreCells(&t.groups, s.Groups)
	for i := range t.sites {
		if site := t.sites[i].site; site != 0 {
			t.sites[i].cells = [TouchGroups]touchCell{}
			t.meet(&t.sites[i])
		}
	}
	return nil
}

// meet gives a site what a snapshot has said of it.
func (t *Touch) meet(s *touchSite) {
	name := t.name(s.site)
	if k, known := t.known[name]; known {
		t.restoreCells(&s.cells, k.Groups)
		delete(t.known, name)
	}
}

// restoreCells replaces what is known in cells by what list says, which was checked.
func (t *Touch) restoreCells(cells *[TouchGroups]touchCell, list []TouchCell) {
	for g := range cells {
		cells[g] = touchCell{used: list[g].Used, looks: list[g].Looks}
		if b := list[g].Bandit; b != nil {
			if err := t.cell(&cells[g], TouchGroup(g)).bandit.Restore(*b); err != nil {
				panic("learn: a snapshot that was checked cannot be restored: " + err.Error())
			}
		}
	}
}

// check returns an error if s could not be restored.
func (s TouchSnapshot) check() error {
	if err := checkTouchCells(s.Groups); err != nil {
		return fmt.Errorf("learn: how memory is faulted in: %w", err)
	}
	if len(s.Sites) > touchSites {
		return fmt.Errorf("learn: how memory is faulted in: %d sites, want at most %d", len(s.Sites), touchSites)
	}
	for i, k := range s.Sites {
		err := checkTouchCells(k.Groups)
		if err == nil && slices.ContainsFunc(s.Sites[:i], func(o TouchSite) bool { return o.Name == k.Name }) {
			err = errors.New("it is there twice")
		}
		if err != nil {
			return fmt.Errorf("learn: how memory is faulted in, of the site %q: %w", k.Name, err)
		}
	}
	return nil
}

// checkTouchCells returns an error if cells are damaged.
func checkTouchCells(cells []TouchCell) error {
	if len(cells) != TouchGroups {
		return fmt.Errorf("%d groups, want %d", len(cells), TouchGroups)
	}
	for g, c := range cells {
		if !(c.Used >= 0 && c.Used <= 1) || c.Looks == 0 && c.Used != 0 {
			return fmt.Errorf("in group %d the share %g of pages is used, by %d plays", g, c.Used, c.Looks)
		}
		if c.Bandit != nil {
			if err := NewBandit(TouchGroup(g).arms(), touchRules()).Restore(*c.Bandit); err != nil {
				return err
			}
		}
	}
	return nil
}

// plays returns how many plays s is of.
func (s TouchSnapshot) plays() (n uint64) {
	for _, c := range s.Groups {
		if c.Bandit != nil {
			n += c.Bandit.Plays()
		}
	}
	return n
}

// mergeTouch returns the one of two that has seen more plays: means of costs on two machines, or of two
// programs, are not those of a third. nil is nothing.
func mergeTouch(s, o *TouchSnapshot) *TouchSnapshot {
	if s == nil || o != nil && o.plays() > s.plays() {
		return o
	}
	return s
}
