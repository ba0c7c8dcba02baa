package hakmem_test

import (
	"errors"
	"fmt"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
)

// What frees of wrong pointers among guarded blocks and hardened ones are told.

func init() {
	children["guarded kinds"] = guardedKinds
	children["hardened size"] = hardenedSize
}

// kindOf frees p, which is wrong, and wants the misuse to be of that kind.
func kindOf(what string, p unsafe.Pointer, kind string) error {
	m, instead := misuseOf(func() { hakmem.Free(p) })
	if m == nil || m.Kind != kind || m.Addr != uintptr(p) {
		return fmt.Errorf("Free of %s: %s %v, want %q", what, instead, m, kind)
	}
	return nil
}

func guardedKinds(string) error {
	const size = 100
	p := hakmem.Malloc(size)
	freed := hakmem.Malloc(size)
	last := hakmem.Malloc(size)
	hakmem.Free(freed)
	for _, c := range []struct {
		what string
		p    unsafe.Pointer
		kind string
	}{
		{"a block's inside", wild(p, 16), "interior pointer"},
		{"an unaligned pointer", wild(p, 8), "unaligned pointer"},
		{"a freed block", freed, "double free"},
		{"a freed block's inside", wild(freed, 16), "never allocated"},
		{"an address among guarded blocks that was never used", wild(last, 1<<30), "never allocated"},
	} {
		if err := kindOf(c.what, c.p, c.kind); err != nil {
			return err
		}
	}
	// A write before a block that ends at its guard page: half of them do.
	for range 200 {
		p := hakmem.Malloc(size)
		if uintptr(p)%4096 == 0 {
			hakmem.Free(p)
			continue
		}
		b := (*byte)(wild(p, -3))
		was := *b
		*b = 0
		if m, _ := misuseOf(func() { hakmem.Free(p) }); m == nil || m.Kind != "buffer underflow" || m.Offset != 3 {
			return fmt.Errorf("a write 3 bytes before a block: %v", m)
		}
		*b = was
		hakmem.Free(p)
		return nil
	}
	return errors.New("of 200 guarded blocks all begin at a page")
}

// hardenedSize: the size behind a hardened block is written over; sizes that leave no
// room for it are refused.
func hardenedSize(string) error {
	for _, size := range []uintptr{^uintptr(0), ^uintptr(0) - 15} {
		if p := hakmem.Malloc(size); p != nil {
			return fmt.Errorf("Malloc(%#x) = %p", size, p)
		}
	}
	p := hakmem.Malloc(100)
	usable := hakmem.GoodSize(100 + 16)
	at := (*uint64)(wild(p, usable-8))
	was := *at
	*at = 0xFFFF
	m, instead := misuseOf(func() { hakmem.Free(p) })
	if m == nil || m.Kind != "buffer overflow" || m.Offset != usable-8 {
		return fmt.Errorf("the size written over: %s %v, want an overflow at %d", instead, m, usable-8)
	}
	*at = was
	hakmem.Free(p)
	return kindOf("a block that was freed", p, "double free")
}

func TestGuardedKinds(t *testing.T) { inChild(t, "guarded kinds", "", "HAKMEM_GUARD=1/1") }
func TestHardenedSize(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; the sanitizer ends the process at the write that this test makes")
	}
	inChild(t, "hardened size", "", "HAKMEM_HARDEN=1")
}
