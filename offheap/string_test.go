package offheap_test

import (
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/offheap"
)

// someTexts are strings of all kinds of lengths: none, within the smallest block, each kind of block.
var someTexts = []string{"", "a", "b", "ab", "aa", "\x00", "\x00\x00", "\xff", "ä€𝄞", strings.Repeat("x", 15), strings.Repeat("x", 16),
	strings.Repeat("x", 17), string(text(1000)), string(text(40_000)), string(text(3 << 20))}

func TestString(t *testing.T) {
	hakmemtest.NoLeaks(t)
	if n := unsafe.Sizeof(offheap.String{}); n != 16 {
		t.Errorf("a String has %d bytes", n)
	}
	seed := maphash.MakeSeed()
	for _, x := range someTexts {
		bytes := []byte(x)
		for what, s := range map[string]offheap.String{"MakeString": offheap.MakeString(x), "MakeStringBytes": offheap.MakeStringBytes(bytes)} {
			clear(bytes) // it has a copy
			if s.Len() != len(x) || s.View() != x || s.Clone() != x || fmt.Sprint(s) != x {
				t.Errorf("%s of %.20q: Len %d, View %.20q, Clone %.20q, by fmt %.20v", what, x, s.Len(), s.View(), s.Clone(), s)
			}
			if s.Hash(seed) != maphash.String(seed, x) {
				t.Errorf("%s of %.20q: another hash", what, x)
			}
			copy(bytes, x)
			for _, y := range someTexts {
				o := offheap.MakeString(y)
				if got := s.Compare(o); got != strings.Compare(x, y) || s.Equal(o) != (x == y) {
					t.Errorf("%.20q and %.20q: Compare %d, Equal %v", x, y, got, s.Equal(o))
				}
				if s == o != (x == "" && y == "") {
					t.Errorf("%.20q == %.20q, of two blocks", x, y)
				}
				o.Free()
			}
			s.Free()
		}
	}
	var zero offheap.String
	if zero != offheap.MakeString("") || zero.View() != "" || zero.Compare(zero) != 0 || !zero.Equal(zero) {
		t.Error("the zero String is not empty")
	}
	zero.Free()
	zero.Free()
}

// TestStringClone: a copy does not change with the block.
func TestStringClone(t *testing.T) {
	s := offheap.MakeString("before")
	clone, printed := s.Clone(), s.String()
	copy(unsafe.Slice(unsafe.StringData(s.View()), s.Len()), "behind")
	if s.View() != "behind" || clone != "before" || printed != "before" {
		t.Errorf("view %q, clones %q and %q", s.View(), clone, printed)
	}
	s.Free()
}

// TestStringInStruct: a String may be a field outside the Go heap, alone and in an array.
func TestStringInStruct(t *testing.T) {
	hakmemtest.NoLeaks(t)
	type user struct {
		id    int64
		names [2]offheap.String
	}
	users := hakmem.MakeSlice[user](100, 100)
	for i := range users {
		users[i] = user{int64(i), [2]offheap.String{offheap.MakeString(fmt.Sprint("first ", i)), offheap.MakeString(fmt.Sprint("last ", i))}}
	}
	for i, u := range users {
		if u.names[0].View() != fmt.Sprint("first ", i) || u.names[1].View() != fmt.Sprint("last ", i) {
			t.Errorf("%d: %v", i, u)
		}
		u.names[0].Free()
		u.names[1].Free()
	}
	hakmem.FreeSlice(users)
}

// TestStringFreedTwice: a second free is found, by a copy too, and changes nothing.
func TestStringFreedTwice(t *testing.T) {
	testkit.InChild(t, "string freed twice", "")
	testkit.InChild(t, "string freed twice", "", "HAKMEM_HARDEN=1")
	testkit.InChild(t, "string freed twice", "", "HAKMEM_GUARD=1")
}

var _ = testkit.Child("string freed twice", func(string) error {
	s := offheap.MakeString("once")
	o := s
	s.Free()
	before := liveBlocks()
	for _, again := range []offheap.String{s, o} {
		if m, instead := testkit.PanicAs[*hakmem.MisuseError](again.Free); m == nil || m.Kind != "double free" {
			return fmt.Errorf("%v, %s", m, instead)
		}
	}
	if n := liveBlocks(); n != before {
		return fmt.Errorf("%d live blocks, before %d", n, before)
	}
	return nil
})
