package offheap_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/offheap"
)

// link is a node of a graph in hakmem's memory.
type link struct {
	next offheap.Ref[link]
	key  int
}

// TestRef: a Ref leads to its block until that is freed, and to none after it, whoever has the memory then.
func TestRef(t *testing.T) {
	hakmemtest.NoLeaks(t)
	rapid.Check(t, func(t *rapid.T) {
		var live, stale []offheap.Ref[link]
		model := map[offheap.Ref[link]]link{}
		pick := func(of []offheap.Ref[link], what string) offheap.Ref[link] {
			if len(of) == 0 {
				t.Skip("none")
			}
			return rapid.SampledFrom(of).Draw(t, what)
		}
		misused := func(r offheap.Ref[link], do func()) {
			if m, instead := testkit.PanicAs[*hakmem.MisuseError](do); m == nil || m.Addr != uintptr(r) {
				t.Errorf("%#x: %+v, %s", r, m, instead)
			}
		}
		key := 0
		t.Repeat(map[string]func(*rapid.T){
			"new": func(*rapid.T) {
				r := offheap.NewRef[link]()
				if *r.Get() != (link{}) || slices.Contains(live, r) || slices.Contains(stale, r) {
					t.Errorf("%#x: %+v, or twice", r, *r.Get())
				}
				key++
				r.Get().key = key
				model[r] = link{key: key}
				live = append(live, r)
			},
			"link": func(t *rapid.T) { // to what may be freed later, or is already
				from, to := pick(live, "from"), pick(append(slices.Clone(stale), live...), "to")
				from.Get().next = to
				model[from] = link{to, model[from].key}
			},
			"free": func(t *rapid.T) {
				r := pick(live, "free")
				r.Free()
				live = slices.DeleteFunc(live, func(o offheap.Ref[link]) bool { return o == r })
				stale = append(stale, r)
				delete(model, r)
			},
			"misuse": func(t *rapid.T) {
				r := pick(stale, "stale")
				misused(r, func() { r.Get() })
				misused(r, r.Free)
			},
			"": func(t *rapid.T) {
				for _, r := range live {
					if got := *r.Get(); got != model[r] {
						t.Errorf("%#x has %+v, want %+v", r, got, model[r])
					}
				}
				for _, r := range stale {
					if p, ok := r.TryGet(); ok || p != nil {
						t.Errorf("%#x was freed and has %+v", r, *p)
					}
				}
			},
		})
		for _, r := range live {
			r.Free()
		}
	})
}
