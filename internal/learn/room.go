package learn

// This file says how much room caches of free blocks get. A cache saves work: a block that is freed and
// wanted again soon need not go back to where blocks come from. It costs memory: the blocks that it holds
// are of no use to anybody else.
//
// Both are weighed in CPU seconds, as for free pages. The price of a byte held for a second is the same
// for all caches of a process. If together they hold more than the budget for them, the price rises until
// they fit (Budget). So room goes to the caches that save the most for each byte, although nobody compares
// them: a market, as in Waldspurger et al., Spawn: A Distributed Computational Economy, 1992.

// RoomCosts says what the room of a cache costs.
type RoomCosts struct {
	Move float64 // CPU seconds to move a block out of the cache and in again
	Hold float64 // CPU seconds that a byte is worth that is held for a second
}

// Fit says whether a cache with room for so many blocks of size bytes should have twice the room (+1),
// half of it (-1), or the same (0). moved is how many blocks were moved out of it and were wanted back,
// in a second.
//
// A cache that runs full and empty at random moves half as many blocks with twice the room, and holds
// half of its room on average. So its costs are least where moved·Move = Hold·size·room/2: the square
// root of Harris (How Many Parts to Make at Once, 1913), who had orders and a stock. Twice the room is
// better above twice that value, and half the room below half of it. Between the two the room stays.
func (c RoomCosts) Fit(room int, size, moved float64) int {
	saved, held := moved*c.Move, c.Hold*size*float64(room)
	switch {
	case saved > held:
		return +1
	case saved < held/4:
		return -1
	}
	return 0
}

// Budget is the price at which all caches of a process together fit into a number of bytes. The zero
// Budget is not usable; its base must be set. It is for one goroutine at a time.
type Budget struct {
	Base  float64 // the price where caches hold less than they may
	Price float64 // the price in force, at least Base; 0: Base
}

const (
	// budgetRange bounds the price to 64 times the base, so that a cache that nothing makes smaller does
	// not take the room of all others.
	budgetRange = 64
	// budgetSlack: below three quarters of the budget the price falls.
	budgetSlack = 0.75
	// budgetUp and budgetDown are the most by which the price changes at once: with the steps of Fit, a
	// factor of four in the price is one of two in the room.
	budgetUp, budgetDown = 2, 0.8
)

// Adjust changes the price after a look at what the caches hold, in bytes, and how much they may.
func (b *Budget) Adjust(held, limit float64) {
	b.Price = max(b.Price, b.Base)
	switch {
	case held > limit:
		b.Price *= min(held/limit, budgetUp)
	case held < budgetSlack*limit:
		b.Price *= budgetDown
	}
	b.Price = min(max(b.Price, b.Base), budgetRange*b.Base)
}
