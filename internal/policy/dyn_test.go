package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
)

// TestDyn: the words and sizes of HAKMEM_DYN, and what is refused, with a remedy that says why.
func TestDyn(t *testing.T) {
	for _, test := range []struct {
		text   string
		sizes  []mem.Bytes
		remedy string // a part of it; "" if the text is a value
	}{
		{text: "auto"}, {text: "off"},
		{text: "4224", sizes: []mem.Bytes{4224}},
		{text: "16512,4224", sizes: []mem.Bytes{16512, 4224}},
		{text: "32640,2176", sizes: []mem.Bytes{32640, 2176}},
		{text: "4100", remedy: "multiple of 128"},
		{text: "1024", remedy: "between 1024 and 32768"},
		{text: "32768", remedy: "between 1024 and 32768"},
		{text: "4608", remedy: "there in any case"},
		{text: "4224,4224", remedy: "twice"},
		{text: "4224,8320,16512", remedy: "at most 2"},
		{text: "4224,", remedy: "no size"},
		{text: "-4224", remedy: "no size"},
		{text: "never", remedy: "one of auto, off"},
	} {
		s, errs := Build(lookup(map[string]string{"HAKMEM_DYN": test.text}))
		if test.remedy != "" {
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), test.remedy) || s.Dyn != DynAuto {
				t.Errorf("%q: %d, %v; want an error with %q", test.text, s.Dyn, errs, test.remedy)
			}
			continue
		}
		if got := Find("HAKMEM_DYN").Value(s); len(errs) > 0 || got != test.text || !slices.Equal(s.Dyn.Sizes(), test.sizes) {
			t.Errorf("%q: %v of %v, shown as %q, errors %v", test.text, s.Dyn, s.Dyn.Sizes(), got, errs)
		}
		if err := s.check(); err != nil {
			t.Errorf("%q: %v", test.text, err)
		}
	}
	for _, wrong := range []Dyn{-1, 2, 8, 36, 33 | 33<<8, 33 | 65<<8 | 129<<16} {
		s, _ := Build(lookup(nil))
		if s.Dyn = wrong; s.check() == nil {
			t.Errorf("the value %d passes", wrong)
		}
	}
}
