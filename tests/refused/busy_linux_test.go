package refused_test

import (
	"fmt"
	"math/rand/v2"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// busy is the load under which calls are refused. Goroutines use blocks of every kind, Heaps,
// Arenas, Realloc and sites (workout.Work), sparse slabs, Trim and ReadStats, while the scavenger
// works as fast as it can.
func busy(seed uint64) error {
	return workout.Together(5, func(g uint64) error {
		switch g {
		case 0, 1:
			_, err := workout.Work(seed*10+g, 12<<20, 2000)
			return err
		case 2:
			if err := arenas(seed); err != nil {
				return err
			}
			return growing()
		case 3:
			return sparse(seed)
		}
		for range 6 {
			hakmem.Trim()
			workout.ReadStats()
		}
		return nil
	})
}

// arenas fills Arenas, some of them beyond the memory there is, and checks their contents.
func arenas(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 4))
	a := hakmem.NewArena()
	defer a.Close()
	for range 4 {
		var blocks []workout.Block
		err := workout.Tolerate(func() error {
			for held := uintptr(0); held < 4<<20; {
				b := workout.Block{Size: uintptr(1 + r.UintN(200_000)), Key: uint64(held)}
				b.P = a.Alloc(b.Size, 1<<r.UintN(13))
				testkit.Fill(b.P, b.Size, b.Key)
				blocks = append(blocks, b)
				held += b.Size
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("Arena: %w", err)
		}
		for _, b := range blocks {
			if !testkit.Intact(b.P, b.Size, b.Key) {
				return fmt.Errorf("Arena: %v is damaged", b)
			}
		}
		a.Reset()
	}
	return nil
}

// growing lets blocks grow: huge ones that cannot grow in place, so that they move, and small ones in
// small steps.
func growing() error {
	for round := range uint64(6) {
		b := workout.Block{P: hakmem.Malloc(3 << 20), Size: 3 << 20, Key: round}
		behind := hakmem.Malloc(3 << 20)
		if b.P != nil {
			testkit.Fill(b.P, b.Size, b.Key)
			p := hakmem.Realloc(b.P, 5<<20)
			if p == nil {
				p = b.P
			}
			if b.P = p; !testkit.Intact(b.P, b.Size, b.Key) {
				return fmt.Errorf("%v is damaged by Realloc", b)
			}
		}
		hakmem.Free(b.P)
		hakmem.Free(behind)
		p := hakmem.Malloc(100)
		for size := uintptr(100); p != nil && size < 30_000; size += 700 {
			q := hakmem.Realloc(p, size+700)
			if q == nil {
				break
			}
			if size > 100 && *(*byte)(unsafe.Add(q, size-1)) != 1 {
				return fmt.Errorf("%p of %d bytes is damaged by Realloc", q, size)
			}
			p = q
			*(*byte)(unsafe.Add(p, size+700-1)) = 1
		}
		hakmem.Free(p)
	}
	return nil
}

// sparse keeps one of every 40 blocks, so that there are holes whose memory can be returned. It
// does so twice.
func sparse(seed uint64) error {
	for round := range uint64(2) {
		var kept []workout.Block
		for _, size := range []uintptr{200, 1000, 3000} {
			var blocks []workout.Block
			for i := range 1<<20/size + 40 {
				b := workout.Block{P: hakmem.Malloc(size), Size: size, Key: seed + round + uint64(i)}
				if b.P != nil {
					testkit.Fill(b.P, b.Size, b.Key)
					blocks = append(blocks, b)
				}
			}
			for i, b := range blocks {
				if i%40 == 0 {
					kept = append(kept, b)
					continue
				}
				hakmem.Free(b.P)
			}
		}
		hakmem.Trim()
		for _, b := range kept {
			if !testkit.Intact(b.P, b.Size, b.Key) {
				return fmt.Errorf("in a sparse slab: %v is damaged", b)
			}
			hakmem.Free(b.P)
		}
	}
	return nil
}
