package export

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
)

// TestMapOf: parts become cells, and no byte is lost or counted twice.
func TestMapOf(t *testing.T) {
	part := func(used uint64) hakmem.RegionPart {
		return hakmem.RegionPart{Used: used << 10, Holes: 4 << 10, Warm: 8 << 10, Returned: hakmem.RegionPartBytes - used<<10 - 12<<10}
	}
	for _, x := range []struct {
		parts, most int
		cells       string
		cell        uint64
	}{
		{0, 4, "[]", 1},
		{1, 4, "[16]", 1},
		{4, 4, "[16 32 48 64]", 1},
		{5, 4, "[48 112 80]", 2},
		{9, 4, "[96 240 384]", 3},
		{5, 1, "[240]", 5},
	} {
		var parts []hakmem.RegionPart
		for i := range x.parts {
			parts = append(parts, part(uint64(16*(i+1))))
		}
		m := mapOf(parts, x.most)
		if got := fmt.Sprint(m.Used); got != x.cells || m.CellBytes != x.cell*hakmem.RegionPartBytes {
			t.Errorf("%d parts in %d cells: %s of %d bytes, want %s of %d parts", x.parts, x.most, got, m.CellBytes, x.cells, x.cell)
		}
		sum := uint32(0)
		for i := range m.Used {
			sum += m.Used[i] + m.Holes[i] + m.Warm[i] + m.Returned[i]
		}
		if sum != uint32(x.parts)*hakmem.RegionPartBytes>>10 {
			t.Errorf("%d parts in %d cells are %d KiB", x.parts, x.most, sum)
		}
	}
}

// TestSample: a sample has each figure, the map and the words, and survives its encoding.
func TestSample(t *testing.T) {
	site := hakmem.RegisterSite("export sample")
	p := hakmem.MallocAt(site, 5000)
	defer hakmem.Free(p)
	s := Sampler{Sites: 100, Trim: true, Profile: "/p"}
	was := s.Sample(true)
	text, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	var is Sample
	if err := json.Unmarshal(text, &is); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(is.Figures.Plain, was.Figures.Plain) || !slices.Equal(is.Region.Used, was.Region.Used) || is.Words != was.Words || !is.Trim || is.Profile != "/p" {
		t.Errorf("decoded: %+v\nencoded: %+v", is, was)
	}
	for _, f := range Names() {
		plain, labelled := was.Figures.Plain, was.Figures.Labelled
		if _, ok := plain[f.Name]; ok == (len(f.Labels) > 0) {
			t.Errorf("%s is in Plain: %v, and has the labels %v", f.Name, ok, f.Labels)
		}
		if len(f.Labels) > 0 && f.Labels[0].Name != "phase" && len(labelled[f.Name]) == 0 { // phases only with HAKMEM_TIMING
			t.Errorf("%s is not in Labelled", f.Name)
		}
	}
	if n := was.Figures.Labelled["site_live_bytes"]["export sample"]; n != float64(hakmem.UsableSize(p)) {
		t.Errorf("the site has %v bytes, want %d", n, hakmem.UsableSize(p))
	}
	if len(was.Region.Used) == 0 || !strings.Contains(was.Words, "live blocks") || strings.Contains(was.Program, "/") || was.PID == 0 || was.Time == 0 {
		t.Errorf("%+v", was)
	}
	if without := s.Sample(false); without.Words != "" {
		t.Errorf("words that nobody wanted: %q", without.Words)
	}
}

func TestDropOdd(t *testing.T) {
	v := Values{map[string]float64{"a": 1, "b": math.NaN()}, map[string]map[string]float64{"c": {"x": math.Inf(-1), "y": 2}}}
	v.dropOdd()
	if len(v.Plain) != 1 || len(v.Labelled["c"]) != 1 {
		t.Errorf("%+v", v)
	}
}
