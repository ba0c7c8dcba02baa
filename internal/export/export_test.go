package export

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
)

// TestNames: each figure that a type of the statistics declares is there, once.
func TestNames(t *testing.T) {
	names := map[string]int{}
	for _, f := range Names() {
		names[f.Name]++
		if f.Help == "" || f.Kind == "" || f.Value != 0 {
			t.Errorf("%+v", f)
		}
	}
	seen := map[reflect.Type]bool{}
	var look func(reflect.Type)
	look = func(typ reflect.Type) {
		if seen[typ] || typ.Kind() != reflect.Struct {
			return
		}
		seen[typ] = true
		for field := range typ.Fields() {
			switch {
			case field.Type.Kind() == reflect.Struct:
				look(field.Type)
			case field.Type.Kind() == reflect.Slice:
				look(field.Type.Elem())
			default:
				name, kind, ok := strings.Cut(field.Tag.Get("stat"), ",")
				if ok && kind != "label" && names[name] != 1 {
					t.Errorf("%s is there %d times", name, names[name])
				}
			}
		}
	}
	look(reflect.TypeFor[hakmem.Stats]())
	if len(names) < 80 { // there were 98 when this was written
		t.Errorf("%d names", len(names))
	}
}

func TestBound(t *testing.T) {
	site := func(name string, bytes, oneIn uint64) hakmem.SiteStats {
		return hakmem.SiteStats{Name: name, LiveBytes: bytes, LiveBlocks: 2, OneIn: oneIn}
	}
	all := []hakmem.SiteStats{site("a", 10, 1), site("b", 30, 1), site("sampled", 1, 64), site("c", 20, 1)}
	for _, x := range []struct {
		most  MaxSites
		sites []hakmem.SiteStats
		want  string
	}{
		{4, all, "a 10 2 1, b 30 2 1, sampled 1 2 64, c 20 2 1"},
		{3, all, "sampled 1 2 64, b 30 2 1, c 20 2 1, other 10 2 1"},
		{1, all, "sampled 1 2 64, other 60 6 1"},
		{0, all, "other 124 134 1"},
		{-1, all, "other 124 134 1"},
		{0, nil, ""},
		{2, []hakmem.SiteStats{site("other", 50, 1), site("a", 10, 1)}, "other 50 2 1, a 10 2 1"},
		{2, []hakmem.SiteStats{site("other", 50, 1), site("a", 10, 1), site("b", 5, 1)}, "a 10 2 1, other 55 4 1"},
	} {
		var got []string
		for _, s := range bound(slices.Clone(x.sites), x.most) {
			got = append(got, fmt.Sprint(s.Name, " ", s.LiveBytes, " ", s.LiveBlocks, " ", s.OneIn))
		}
		if is := strings.Join(got, ", "); is != x.want {
			t.Errorf("%d of %v: %s, want %s", x.most, x.sites, is, x.want)
		}
	}
}

// TestReader: figures have the values of the moment, sites are bounded, and the loop may end early.
func TestReader(t *testing.T) {
	var r Reader
	value := func(want string) (v float64, sites int) {
		r.Each(1, func(f hakmem.Figure) bool {
			if f.Name == want {
				v = f.Value
			}
			if f.Name == "site_live_bytes" {
				sites++
			}
			return true
		})
		return v, sites
	}
	was, _ := value("live_bytes")
	var blocks [3]hakmem.Site
	for i := range blocks {
		blocks[i] = hakmem.RegisterSite(fmt.Sprint("export ", i))
	}
	p := hakmem.MallocAt(blocks[0], 5000)
	is, sites := value("live_bytes")
	if is-was != float64(hakmem.UsableSize(p)) || sites != 2 {
		t.Errorf("%v bytes more are live after a block of %d, and there are %d sites, want 2", is-was, hakmem.UsableSize(p), sites)
	}
	hakmem.Free(p)
	n := 0
	r.Each(1, func(hakmem.Figure) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("%d figures after the third should have been the last", n)
	}
}
