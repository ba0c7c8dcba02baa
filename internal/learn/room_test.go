package learn

import (
	"math"
	"testing"
)

// TestFit: room is doubled where it saves more than twice what it costs, halved where it saves less than
// half of it, and else left.
func TestFit(t *testing.T) {
	costs := RoomCosts{Move: 1e-7, Hold: 1e-10}
	// Room for 8 blocks of 1000 bytes holds 4000 bytes, which cost 4e-7 a second: four blocks.
	const room, size, even = 8, 1000, 4.0
	for _, test := range []struct {
		costs RoomCosts
		moved float64
		want  int
	}{
		{costs, 0, -1},
		{costs, even/2 - 0.01, -1},
		{costs, even/2 + 0.01, 0},
		{costs, even, 0},
		{costs, 2*even - 0.01, 0},
		{costs, 2*even + 0.01, +1},
		{costs, math.Inf(1), +1},
		{RoomCosts{Move: costs.Move, Hold: 4 * costs.Hold}, even, -1},
		{RoomCosts{Move: 4 * costs.Move, Hold: costs.Hold}, even, +1},
		{RoomCosts{Move: costs.Move}, 0, 0},         // free memory saves nothing here
		{RoomCosts{Move: costs.Move}, even, +1},     // and is worth whatever it saves
		{RoomCosts{Hold: costs.Hold}, 1e9, -1},      // nothing is saved
		{RoomCosts{Move: 1, Hold: 1e-10}, 1e-5, +1}, // a block that is seldom moved and dear
	} {
		if got := test.costs.Fit(room, size, test.moved); got != test.want {
			t.Errorf("%+v: %g blocks moved: %d, want %d", test.costs, test.moved, got, test.want)
		}
	}
}

// TestFitSquareRoot: where a cache moves blocks in proportion to 1/room, it comes to rest within a factor
// of √2 of the square root at which its costs are least, from wherever it begins, and stays there.
func TestFitSquareRoot(t *testing.T) {
	costs := RoomCosts{Move: 1.3e-7, Hold: 0.93e-10}
	for _, size := range []float64{16, 1000, 32 << 10, 2 << 20} {
		for moves := 0.01; moves < 1e9; moves *= 1.07 { // blocks moved with room for one
			// The costs moves/room·Move + Hold·size·room/2 are least here.
			best := math.Sqrt(2 * moves * costs.Move / (costs.Hold * size))
			for _, first := range []int{1, 64, 1 << 14} {
				room, turns, last := first, 0, 0
				for {
					best := costs.Fit(room, size, moves/float64(room))
					if best == 0 || best < 0 && room == 1 {
						break
					}
					if best*last < 0 {
						t.Fatalf("%g bytes, %g moved: at room for %d the choice flips", size, moves, room)
					}
					if last = best; best > 0 {
						room *= 2
					} else {
						room /= 2
					}
					if turns++; turns > 40 {
						t.Fatalf("%g bytes, %g moved: room for %d after %d turns", size, moves, room, turns)
					}
				}
				if r := float64(room) / best; r < 1/math.Sqrt2 || room > 1 && r > math.Sqrt2 {
					t.Errorf("%g bytes, %g moved, from %d: room for %d, want about %.1f", size, moves, first, room, best)
				}
			}
		}
	}
}

// TestBudgetAdjust: the price begins when caches hold more than they may, rises while they do, falls while
// they hold much less until there is none, and keeps within its bounds, whatever its base becomes.
func TestBudgetAdjust(t *testing.T) {
	const base, limit = 0.5, 1000.0
	for _, test := range []struct {
		name        string
		price, held float64
		want        float64
	}{
		{"the first look", 0, 800, 0},
		{"the first look, too much", 0, 1500, 1.5 * base},
		{"nothing held", base, 0, base / 2},
		{"little held", base, 600, 0.8 * base},
		{"as much as may be", 2, limit, 2},
		{"just enough", 2, 750, 2},
		{"less than three quarters", 2, 749.25, 2 * 0.999},
		{"nearly at the end", base / 7.9, 10, base / 15.8},
		{"at the end", base / 8.1, 10, 0},
		{"a tenth too much", 2, 1100, 2 * 1.1},
		{"twice as much", 2, 2000, 4},
		{"ten times too much", 2, 10_000, 8},
		{"the bound", 63 * base, 10_000, 64 * base},
		{"at the bound", 64 * base, 1100, 64 * base},
		{"the base has risen", base / 10, 800, base / 10},
		{"the base has risen much", base / 17, 800, 0},
		{"the base has fallen", 1000 * base, 800, 64 * base},
	} {
		b := Budget{Base: base, Price: test.price}
		if b.Adjust(test.held, limit); math.Abs(b.Price-test.want) > 1e-12 {
			t.Errorf("%s: %g held at %g: the price becomes %g, want %g", test.name, test.held, test.price, b.Price, test.want)
		}
	}
	b := Budget{Base: base}
	if b.Adjust(0, 0); b.Price != 0 {
		t.Errorf("no room, and none is used: the price is %g, want 0", b.Price)
	}
	if b.Adjust(1, 0); b.Price != 4*base {
		t.Errorf("no room, and some is used: the price is %g, want %g", b.Price, 4*base)
	}
}

// TestBudgetShares: caches that decide for themselves at a common price come to hold what they may
// together, and shares of it in proportion to the square roots of what passes through them.
func TestBudgetShares(t *testing.T) {
	const size, limit = 1000, 4_000_000
	passing := []float64{1e6, 4e6, 16e6, 64e6, 256e6}
	room := []float64{1 << 14, 1, 1 << 14, 1, 1 << 14}
	b := Budget{Base: 1e-10, Price: 1e-10}
	held := 0.0
	for range 200 {
		held = 0
		for i, n := range passing {
			costs := RoomCosts{Move: 1e-7, Hold: b.Price}
			for range 4 { // several turns for each look
				switch costs.Fit(int(room[i]), size, n/room[i]) {
				case +1:
					room[i] *= 2
				case -1:
					room[i] = max(room[i]/2, 1)
				}
			}
			held += size * room[i] / 2
		}
		b.Adjust(held, limit)
	}
	if held > limit || held < limit/3 {
		t.Errorf("%g bytes are held, want at most %d, and not much less", held, limit)
	}
	for i := range len(room) - 1 {
		if r := room[i+1] / room[i]; r < 1 || r > 4 { // 2, and a factor of 2 for steps
			t.Errorf("four times as much passes, and the room is %g times as large, want 2", r)
		}
	}
	for range 40 {
		b.Adjust(0, limit)
	}
	if b.Price != 0 {
		t.Errorf("nothing is held, and the price is %g, want 0", b.Price)
	}
}
