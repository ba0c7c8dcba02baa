package offheap_test

import (
	"fmt"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/offheap"
)

// bytesOfSite returns how many bytes of live blocks and chunks of Arenas have a site, and how many have not.
func bytesOfSite(s hakmem.Site) (with, without uintptr) {
	for b := range hakmem.LiveBlocks() {
		if b.Site == s {
			with += b.Size
		} else {
			without += b.Size
		}
	}
	return with, without
}

func TestBufferOptions(t *testing.T) {
	hakmemtest.NoLeaks(t)
	mustPanicNaming(t, "two options", func() { offheap.NewBuffer(offheap.BufferOptions{}, offheap.BufferOptions{}) }, "NewBuffer", "2 BufferOptions")
	mustPanicNaming(t, "a capacity", func() { offheap.NewBuffer(offheap.BufferOptions{Capacity: -5}) }, "NewBuffer", "Capacity -5")
	mustPanicNaming(t, "a site", func() { offheap.NewBuffer(offheap.BufferOptions{Site: 60_000}) }, "60000", "RegisterSite")
	plain := offheap.NewBuffer()
	if plain.Len() != 0 || plain.Cap() != 0 {
		t.Errorf("a new Buffer has %d bytes, of %d", plain.Len(), plain.Cap())
	}
	site := hakmem.RegisterSite("buffer options test")
	_, before := bytesOfSite(site)
	b := offheap.NewBuffer(offheap.BufferOptions{Site: site, Capacity: 100_000})
	if b.Cap() < 100_000 || b.Len() != 0 {
		t.Errorf("%d bytes, of %d", b.Len(), b.Cap())
	}
	// All that gets memory, and all that a Buffer is set back to.
	for round, back := range []func(){b.Reset, b.Release, func() { b.Truncate(0) }, b.Release} {
		for b.Len() < 3<<20 {
			fmt.Fprintf(b, "%0999d\n", b.Len())
		}
		b.Bytes()
		if with, without := bytesOfSite(site); with < 3<<20 || without != before {
			t.Errorf("round %d: %d bytes have the site, and %d have not, before %d", round, with, without, before)
		}
		back()
	}
	if with, _ := bytesOfSite(site); with != 0 {
		t.Errorf("%d bytes of the site are left", with)
	}
}

func TestInternerOptions(t *testing.T) {
	hakmemtest.NoLeaks(t)
	mustPanicNaming(t, "two options", func() { offheap.NewInterner(offheap.InternerOptions{}, offheap.InternerOptions{}) }, "NewInterner", "2 InternerOptions")
	mustPanicNaming(t, "a site", func() { offheap.NewInterner(offheap.InternerOptions{Site: 60_000}) }, "60000", "RegisterSite")
	site := hakmem.RegisterSite("interner options test")
	_, before := bytesOfSite(site)
	in := offheap.NewInterner(offheap.InternerOptions{Site: site})
	for i := range 20_000 { // tables grow, and Arenas get chunks
		if s := fmt.Sprintf("string %d", i); in.Intern(s).View() != s {
			t.Fatalf("%s is %s", s, in.Intern(s).View())
		}
	}
	with, without := bytesOfSite(site)
	if uint64(with) < in.Bytes() || without != before {
		t.Errorf("%d bytes have the site, of %d, and %d have not, before %d", with, in.Bytes(), without, before)
	}
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	counted := uint64(0)
	for _, x := range s.Sites {
		if x.Site == site {
			counted = x.LiveBytes
		}
	}
	if counted != uint64(with) {
		t.Errorf("the statistics have %d bytes of the site, want %d", counted, with)
	}
	in.Close()
	if with, _ := bytesOfSite(site); with != 0 {
		t.Errorf("%d bytes of the site are left", with)
	}
	if err := hakmem.CheckInvariants(); err != nil {
		t.Error(err)
	}
}
