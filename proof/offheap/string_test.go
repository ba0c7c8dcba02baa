package offheap_test

import (
	"cmp"
	"hash/maphash"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/offheap"
)

// word draws a string, often one of few.
func word() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringN(0, 2, -1), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(0, 100_000), func(n int) string { return string(make([]byte, n)) }))
}

// runStrings keeps Strings in a slice outside the Go heap, and Go strings next to them.
func runStrings(t *rapid.T) {
	const most = 64
	strings := hakmem.MakeSlice[offheap.String](0, most)
	defer hakmem.FreeSlice(strings[:0])
	var like []string
	seed := maphash.MakeSeed()
	defer func() {
		for _, s := range strings {
			s.Free()
		}
	}()
	pick := func(t *rapid.T) int {
		if len(like) == 0 {
			t.Skip("there is none")
		}
		return rapid.IntRange(0, len(like)-1).Draw(t, "which")
	}
	t.Repeat(map[string]func(*rapid.T){
		"make": func(t *rapid.T) {
			if len(like) == most {
				t.Skip("no room")
			}
			s := word().Draw(t, "s")
			if rapid.Bool().Draw(t, "bytes") {
				strings = append(strings, offheap.MakeStringBytes([]byte(s)))
			} else {
				strings = append(strings, offheap.MakeString(s))
			}
			like = append(like, s)
		},
		"free": func(t *rapid.T) {
			i := pick(t)
			strings[i].Free()
			strings, like = slices.Delete(strings, i, i+1), slices.Delete(like, i, i+1)
		},
		"replace": func(t *rapid.T) {
			i := pick(t)
			s := word().Draw(t, "s")
			strings[i].Free()
			strings[i], like[i] = offheap.MakeString(s), s
		},
		"compare": func(t *rapid.T) {
			i, k := pick(t), pick(t)
			if got, want := strings[i].Compare(strings[k]), cmp.Compare(like[i], like[k]); got != want || strings[i].Equal(strings[k]) != (like[i] == like[k]) {
				t.Fatalf("%q and %q: Compare %d, Equal %v", like[i], like[k], got, strings[i].Equal(strings[k]))
			}
		},
		"sort": func(t *rapid.T) {
			slices.SortFunc(strings, offheap.String.Compare)
			slices.Sort(like)
		},
		"": func(t *rapid.T) {
			for i, s := range strings {
				if s.View() != like[i] || s.Clone() != like[i] || s.Len() != len(like[i]) || s.Hash(seed) != maphash.String(seed, like[i]) {
					t.Fatalf("%d: %q, want %q", i, s, like[i])
				}
			}
		},
	})
}

func TestStrings(t *testing.T) {
	hakmemtest.NoLeaks(t)
	rapid.Check(t, runStrings)
}

// runInterner does the same to an Interner and to a map.
func runInterner(t *rapid.T) {
	in := offheap.NewInterner(offheap.InternerOptions{
		Site: rapid.SampledFrom([]hakmem.Site{0, hakmem.RegisterSite("proof/offheap interner")}).Draw(t, "site"),
	})
	defer in.Close()
	like, bytes := map[string]offheap.String{}, uint64(0)
	intern := func(t *rapid.T, s string, intern func(string) offheap.String) {
		got := intern(s)
		if got.View() != s {
			t.Fatalf("%q became %q", s, got.View())
		}
		want, there := like[s]
		switch {
		case there && got != want:
			t.Fatalf("%q is at two places", s)
		case !there && s != "":
			like[s] = got
			bytes += uint64(len(s))
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"Intern": func(t *rapid.T) { intern(t, word().Draw(t, "s"), in.Intern) },
		"InternBytes": func(t *rapid.T) {
			intern(t, word().Draw(t, "s"), func(s string) offheap.String { return in.InternBytes([]byte(s)) })
		},
		"many": func(t *rapid.T) { // so that tables grow
			n := rapid.IntRange(1, 3000).Draw(t, "n")
			p := []byte(rapid.StringN(0, 3, -1).Draw(t, "prefix"))
			for i := range n {
				intern(t, string(append(p, byte(i), byte(i>>8))), in.Intern)
			}
		},
		"": func(t *rapid.T) {
			if in.Len() != len(like) || in.Bytes() < bytes+16*uint64(len(like)) {
				t.Fatalf("Len %d, Bytes %d, want %d strings of %d bytes", in.Len(), in.Bytes(), len(like), bytes)
			}
			for s, want := range like {
				if got := in.Intern(s); got != want || got.View() != s {
					t.Fatalf("%q is at two places, or is %q now", s, got.View())
				}
			}
		},
	})
}

func TestInterner(t *testing.T) {
	hakmemtest.NoLeaks(t)
	rapid.Check(t, runInterner)
}
