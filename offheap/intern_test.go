package offheap_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/offheap"
)

func TestInterner(t *testing.T) {
	hakmemtest.NoLeaks(t)
	in := offheap.NewInterner()
	if in.Len() != 0 || in.Bytes() != 0 {
		t.Errorf("a new one has %d strings, %d bytes", in.Len(), in.Bytes())
	}
	const many = 20_000 // so that each shard's table grows several times
	name := func(i int) string { return fmt.Sprint("name ", i) }
	first, total := map[string]offheap.String{}, 0
	for i := range many {
		s := in.Intern(name(i))
		if s.View() != name(i) {
			t.Fatalf("%q became %q", name(i), s.View())
		}
		first[name(i)] = s
		total += s.Len()
	}
	for i := range many {
		if s := in.InternBytes([]byte(name(i))); s != first[name(i)] {
			t.Fatalf("%q is at two places", name(i))
		}
	}
	if in.Len() != many {
		t.Errorf("%d strings, want %d", in.Len(), many)
	}
	// A slot of 16 bytes each, at least; with tables half full, and the old ones, four times as many.
	if n := in.Bytes(); n < uint64(total)+16*many || n > uint64(total)+6*16*many {
		t.Errorf("%d bytes, of which the strings have %d", n, total)
	}
	for _, x := range someTexts {
		if s := in.Intern(x); s.View() != x || s != in.Intern(x) {
			t.Errorf("%.20q became %.20q", x, s.View())
		}
	}
	if in.Intern("") != (offheap.String{}) || in.Len() != many+len(someTexts)-1 {
		t.Errorf("the empty string counts: %d strings", in.Len())
	}
	in.Close()
}

func TestInternerClosed(t *testing.T) {
	in := offheap.NewInterner()
	s := in.Intern("x")
	if m, instead := testkit.PanicAs[*hakmem.MisuseError](s.Free); m == nil || m.Kind != "arena memory" {
		t.Errorf("Free of a String of an Interner: %v, %s", m, instead)
	}
	if s.View() != "x" {
		t.Errorf("after that: %q", s.View())
	}
	in.Close()
	for what, do := range map[string]func(){
		"Intern": func() { in.Intern("y") }, "InternBytes": func() { in.InternBytes(nil) },
		"Len": func() { in.Len() }, "Bytes": func() { in.Bytes() }, "Close": in.Close,
	} {
		m, instead := testkit.PanicAs[*hakmem.MisuseError](do)
		if m == nil || m.Kind != "closed interner" || m.Addr != uintptr(unsafe.Pointer(in)) {
			t.Errorf("%s: %v, %s", what, m, instead)
			continue
		}
		mustName(t, what, m, "Interner.", "the handle", "do not use an Interner after Close")
	}
	mustPanicNaming(t, "zero", func() { new(offheap.Interner).Intern("x") }, "Interner.Intern", "the handle", "made by NewInterner")
	offheap.NewInterner().Close()
}

// TestInternerParallel: goroutines that intern the same strings at the same time get the same ones.
func TestInternerParallel(t *testing.T) {
	const workers, many = 8, 5000
	in := offheap.NewInterner()
	defer in.Close()
	var got [workers][many]offheap.String
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for k := range many {
				i := (k + w*many/workers) % many
				got[w][i] = in.Intern(fmt.Sprint(i))
				if k%1000 == 0 {
					in.Bytes()
					runtime.Gosched()
				}
			}
		})
	}
	all.Wait()
	for i := range many {
		for w := range workers {
			if got[w][i] != got[0][i] || got[w][i].View() != fmt.Sprint(i) {
				t.Fatalf("%d: goroutine 0 got %v at %p, goroutine %d %v", i, got[0][i], &got[0][i], w, got[w][i])
			}
		}
	}
	if in.Len() != many {
		t.Errorf("%d strings, want %d", in.Len(), many)
	}
}

// TestInternerCollision: strings of the same length and hash are two, and one that another goroutine has
// added in between is found.
func TestInternerCollision(t *testing.T) {
	in := offheap.NewInterner()
	defer in.Close()
	a, b := offheap.InternWithHash(in, 7, "aaaa"), offheap.InternWithHash(in, 7, "bbbb")
	if a.View() != "aaaa" || b.View() != "bbbb" || in.Len() != 2 {
		t.Errorf("%v, %v; %d strings", a, b, in.Len())
	}
	if offheap.InternWithHash(in, 7, "aaaa") != a || offheap.InternWithHash(in, 7, "bbbb") != b || in.Len() != 2 {
		t.Errorf("added twice; %d strings", in.Len())
	}
}

// TestInternerShards: strings are in all shards, about as many in each.
func TestInternerShards(t *testing.T) {
	in := offheap.NewInterner()
	defer in.Close()
	const many = 16_000
	for i := range many {
		in.Intern(fmt.Sprint(i))
	}
	shards := offheap.StringsInShards(in)
	for _, n := range shards {
		if mean := int64(many / len(shards)); n < mean/2 || n > mean*2 { // 16 standard deviations
			t.Errorf("strings in each shard: %d", shards)
			break
		}
	}
}

// TestInternerReadsWithoutLock: a string that is there is found while the locks are held, without Go
// memory.
func TestInternerReadsWithoutLock(t *testing.T) {
	in := offheap.NewInterner()
	defer in.Close()
	word := []byte("word")
	want := in.InternBytes(word)
	offheap.LockInterner(in)
	defer offheap.UnlockInterner(in)
	if n := testing.AllocsPerRun(100, func() {
		if in.InternBytes(word) != want {
			t.Error("another string")
		}
	}); n != 0 {
		t.Errorf("%v Go allocations", n)
	}
}

// TestWithoutMemory: what finds no memory panics, changes nothing, and works again afterwards.
func TestWithoutMemory(t *testing.T) { inModes(t, "without memory") }

var _ = testkit.Child("without memory", func(string) error {
	in := offheap.NewInterner()
	kept := in.Intern("kept")
	var b offheap.Buffer
	const chunks = 5 // of 1 MiB and less: gathering them needs as much again
	held := text(chunks << 20)
	for rest := held; len(rest) > 0; rest = rest[1<<10:] {
		b.Write(rest[:1<<10])
	}
	if n := len(offheap.Chunks(&b)); n < chunks {
		return fmt.Errorf("%d chunks", n)
	}
	if _, err := b.Read(make([]byte, 100)); err != nil {
		return err
	}
	if err := hakmem.SetMemoryLimit(0, hakmem.Counted()+3<<20); err != nil {
		return err
	}
	large := string(text(16 << 20))
	for what, do := range map[string]func(){
		"Buffer.WriteString": func() { b.WriteString(large) },
		"Buffer.Grow":        func() { b.Grow(16 << 20) },
		"Buffer.Bytes":       func() { b.Bytes() },
		"MakeString":         func() { offheap.MakeString(large) },
		"Intern":             func() { in.Intern(large) },
	} {
		if oom, instead := testkit.PanicAs[*hakmem.OutOfMemoryError](do); oom == nil {
			return fmt.Errorf("%s: %s, want *OutOfMemoryError", what, instead)
		}
		if err := offheap.CheckBuffer(&b); err != nil {
			return fmt.Errorf("after %s: %w", what, err)
		}
	}
	if err := hakmem.SetMemoryLimit(0, 0); err != nil {
		return err
	}
	if in.Intern("kept") != kept || in.Len() != 1 || in.Intern(large).View() != large {
		return errors.New("the Interner lost something")
	}
	if string(b.Bytes()) != string(held[100:]) {
		return errors.New("the Buffer lost something")
	}
	b.Release()
	in.Close()
	if n := liveBlocks(); n != 0 {
		return fmt.Errorf("%d live blocks", n)
	}
	return nil
})
