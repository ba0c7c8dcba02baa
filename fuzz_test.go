package hakmem_test

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// FuzzOperations reads a program of four-byte operations: what to do, with which
// of 64 slots, and a size. A model of the live blocks with their contents says
// what must hold after each.
func FuzzOperations(f *testing.F) {
	op := func(what, slot byte, size uint16) []byte {
		return binary.LittleEndian.AppendUint16([]byte{what, slot}, size)
	}
	program := func(ops ...[]byte) (p []byte) {
		for _, o := range ops {
			p = append(p, o...)
		}
		return p
	}
	f.Add(program(op(0, 0, 10), op(6, 0, 0)))                                                         // malloc, free
	f.Add(program(op(1, 1, 100), op(5, 1, 5000), op(5, 1, 3), op(7, 1, 0)))                           // through a Heap, with Realloc
	f.Add(program(op(2, 2, 1024), op(6, 2, 0), op(2, 2, 1024), op(8, 2, 0)))                          // Calloc of a dirty block, double free
	f.Add(program(op(3, 3, 48), op(3, 4, 48), op(9, 3, 16), op(6, 4, 0), op(11, 0, 0)))               // MallocAt, interior pointer, Trim
	f.Add(program(op(4, 5, 0x8040), op(4, 6, 0xF001), op(10, 0, 0), op(6, 5, 0), op(6, 6, 0)))        // AlignedAlloc, spans, statistics
	f.Add(program(op(0, 0, 0xFFFF), op(5, 0, 0x9000), op(12, 0, 0), op(1, 1, 77), op(5, 0, 0)))       // big spans, a Heap closed and made anew
	f.Add(program(op(0, 7, 0), op(0, 8, 0), op(0, 9, 1), op(5, 7, 0), op(5, 7, 0xA000), op(9, 7, 1))) // size 0
	many := []byte{}
	for i := range byte(255) {
		many = append(many, op(i%13, i*7, uint16(i)*257)...)
	}
	f.Add(many)

	f.Fuzz(func(t *testing.T, program []byte) {
		hakmem.Trim()
		base := readStats()
		h := hakmem.NewHeap()
		site := hakmem.RegisterSite("FuzzOperations")
		var slots [64]block
		total := uintptr(0)
		const budget = 64 << 20 // bytes live at once

		misused := func(what string, p unsafe.Pointer) {
			if m, instead := misuseOf(func() { hakmem.Free(p) }); m == nil {
				t.Fatalf("Free of %s %p: %s", what, p, instead)
			}
		}
		put := func(b *block, p unsafe.Pointer, size uintptr, key uint64) {
			if p == nil {
				t.Fatalf("no block of %d bytes: %v", size, hakmem.Err())
			}
			if uintptr(p)%16 != 0 || hakmem.UsableSize(p) < size {
				t.Fatalf("block of %d bytes at %p has %d", size, p, hakmem.UsableSize(p))
			}
			*b = block{p, size, key}
			fill(p, size, key)
			total += size
		}
		drop := func(b *block, free func(unsafe.Pointer)) (p unsafe.Pointer) {
			if b.p == nil {
				return nil
			}
			p = b.p
			b.check(t)
			total -= b.size
			free(p)
			*b = block{}
			return p
		}
		for i := 0; i+4 <= len(program) && i < 4*4096; i += 4 {
			b := &slots[program[i+1]%64]
			// The top bits of the size stretch it: mostly tiny, up to 4 MiB.
			n := uintptr(binary.LittleEndian.Uint16(program[i+2:]))
			size := n & 0xFFF
			switch n >> 12 {
			case 15:
				size <<= 10
			case 12, 13, 14:
				size <<= 6
			case 8, 9, 10, 11:
				size <<= 3
			}
			key := uint64(i)<<32 | uint64(n)
			what := program[i] % 13
			if what < 6 && total+size > budget {
				continue
			}
			if what < 5 {
				drop(b, hakmem.Free)
			}
			switch what {
			case 0:
				put(b, hakmem.Malloc(size), size, key)
			case 1:
				put(b, h.Malloc(size), size, key)
			case 2:
				p := hakmem.Calloc(1, size)
				if p != nil && !isZero(p, size) {
					t.Fatalf("Calloc(%d) at %p is not zero", size, p)
				}
				put(b, p, size, key)
			case 3:
				put(b, hakmem.MallocAt(site, size), size, key)
			case 4:
				align := uintptr(1) << (n % 22)
				p := hakmem.AlignedAlloc(align, size)
				if uintptr(p)%align != 0 {
					t.Fatalf("AlignedAlloc(%d, %d) = %p", align, size, p)
				}
				put(b, p, size, key)
			case 5:
				realloc := hakmem.Realloc
				if n%2 == 1 {
					realloc = h.Realloc
				}
				old := *b
				p := realloc(old.p, size)
				if old.p != nil {
					if p == nil || !intact(p, min(old.size, size)&^7, old.key) {
						t.Fatalf("Realloc of %v to %d bytes = %p lost the contents", old, size, p)
					}
					total -= old.size
				}
				put(b, p, size, key)
			case 6:
				drop(b, hakmem.Free)
			case 7:
				drop(b, h.Free)
			case 8:
				if p := drop(b, hakmem.Free); p != nil {
					misused("a freed block", p)
				}
			case 9:
				if b.p != nil {
					if off := max(n%hakmem.UsableSize(b.p), 1); off < hakmem.UsableSize(b.p) {
						misused("the inside of a block", unsafe.Add(b.p, off))
					}
					b.check(t)
				}
			case 10:
				var live []block
				var bytes, siteBlocks uint64
				for _, b := range slots {
					if b.p != nil {
						live = append(live, b)
						bytes += uint64(hakmem.UsableSize(b.p))
					}
				}
				mustNotOverlap(t, live)
				s := readStats()
				if s.LiveBlocks-base.LiveBlocks != uint64(len(live)) || s.Live-base.Live != bytes {
					t.Fatalf("live %d bytes in %d blocks, the model has %d in %d", s.Live-base.Live, s.LiveBlocks-base.LiveBlocks, bytes, len(live))
				}
				for _, x := range s.Sites {
					siteBlocks += x.LiveBlocks
				}
				if siteBlocks > s.LiveBlocks {
					t.Fatalf("sites have %d live blocks of %d", siteBlocks, s.LiveBlocks)
				}
				mustAddUp(t, "within a program", &s)
			case 11:
				hakmem.Trim()
			case 12:
				h.Close()
				h = hakmem.NewHeap()
			}
		}
		for i := range slots {
			drop(&slots[i], hakmem.Free)
		}
		h.Close()
		if s := readStats(); s.Live != base.Live || s.LiveBlocks != base.LiveBlocks {
			t.Fatalf("all freed: live %d bytes in %d blocks, before %d in %d", s.Live, s.LiveBlocks, base.Live, base.LiveBlocks)
		}
	})
}
