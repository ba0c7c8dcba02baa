package engine

import "github.com/hakmem/hakmem/internal/mem"

// canaryWords bounds the canary behind a block, of which a size class may leave
// 12 % free: as many words are always written, so that there is nothing for the
// processor to guess (docs/ledger.md, "Hardening without guesses").
const canaryWords = 4

const canary = 0xCA // an odd value, no ASCII, no small number

const (
	canaryWord = canary * 0x0101010101010101
)

// putCanary fills the bytes from a to b, at least 8 of them and at most
// canaryWords words. The last words overlap where there are fewer.
//
//go:norace
func putCanary(a, b mem.Addr) {
	for i := uintptr(0); i < canaryWords; i++ {
		*u64(min(a+mem.Addr(i*8), b-8)) = canaryWord
	}
}

// canaryWhole reports whether what putCanary wrote is there, and else the first
// address where it is not.
//
//go:norace
func canaryWhole(a, b mem.Addr) (at mem.Addr, ok bool) {
	x := uint64(0)
	for i := uintptr(0); i < canaryWords; i++ {
		x |= *u64(min(a+mem.Addr(i*8), b-8)) ^ canaryWord
	}
	if x == 0 {
		return 0, true
	}
	for at = a; *u8(at) == canary; at++ {
	}
	return at, false
}
