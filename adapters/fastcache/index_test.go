package fastcache

import (
	"math/rand/v2"
	"testing"

	"github.com/hakmem/hakmem/hakmemtest"
)

// holdsAll fails unless the index has exactly what the map has, and is as large as it should be.
func holdsAll(t *testing.T, x *index, model map[hash]place) {
	t.Helper()
	if x.live != len(model) {
		t.Fatalf("%d live, want %d", x.live, len(model))
	}
	for h, at := range model {
		if got := x.get(h); got != at {
			t.Fatalf("hash %#x has place %d, want %d", h, got, at)
		}
	}
	used := 0
	for _, s := range x.slots {
		if s.at != 0 {
			used++
		}
	}
	if used != len(model) || used*4 > len(x.slots)*3 {
		t.Fatalf("%d of %d slots are used, want %d", used, len(x.slots), len(model))
	}
}

// TestIndex: an index is a map, whatever the hashes are.
func TestIndex(t *testing.T) {
	for name, hashes := range map[string]func(r *rand.Rand) hash{
		"spread":    func(r *rand.Rand) hash { return hash(r.Uint64()) },
		"few":       func(r *rand.Rand) hash { return hash(r.IntN(200)) * bucketsCount },
		"two homes": func(r *rand.Rand) hash { return hash(r.IntN(100))<<40 + hash(r.IntN(2))*15*bucketsCount },
		"at the end": func(r *rand.Rand) hash { // their searches run over the end of the table
			return hash(r.IntN(100))<<40 - hash(r.IntN(4))*bucketsCount
		},
		"zero": func(r *rand.Rand) hash { return hash(r.IntN(2)) },
	} {
		t.Run(name, func(t *testing.T) {
			hakmemtest.NoLeaks(t)
			var x index
			model := map[hash]place{}
			r := rand.New(rand.NewPCG(1, 4))
			for step := range 4000 {
				h := hashes(r)
				switch r.IntN(5) {
				case 0, 1, 2:
					at := place(1 + r.IntN(1000))
					if !x.put(h, at) {
						t.Fatal("put: no memory")
					}
					model[h] = at
				case 3:
					x.del(h)
					delete(model, h)
				case 4:
					if got := x.get(h); got != model[h] {
						t.Fatalf("hash %#x has place %d, want %d", h, got, model[h])
					}
				}
				if step%500 == 499 {
					keep := func(at place) bool { return at%4 == place(step/500%4) }
					x.retain(keep)
					for h, at := range model {
						if !keep(at) {
							delete(model, h)
						}
					}
				}
				if step%50 == 49 {
					holdsAll(t, &x, model)
				}
			}
			x.retain(func(place) bool { return false })
			if x.live != 0 || len(x.slots) > minSlots*4 {
				t.Errorf("an emptied index has %d slots, %d of them live", len(x.slots), x.live)
			}
			x.free()
			x.del(1)
			if x.get(1) != 0 {
				t.Error("a freed index has a place")
			}
		})
	}
}
