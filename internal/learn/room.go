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
	Base  float64 // what memory costs that is not in a cache
	Price float64 // what memory in a cache costs; 0: caches may have what they want
}

// The bounds of a price, as multiples of the base, and how it moves between them.
const (
	// MostPrice bounds the price to 64 times the base, so that a cache that nothing makes smaller does
	// not take the room of all others.
	MostPrice = 64
	// LeastPrice is the price below which caches may have what they want: a 16th of the base. There
	// they have four times the room that they have at the base, which is what sixteen fronts take where
	// nothing limits them. If they had it at the base already, what they hold would swing between half
	// and one and a half of a budget that lies between.
	LeastPrice = 1.0 / 16
	// budgetSlack: below three quarters of the budget the price falls.
	budgetSlack = 0.75
	// budgetStep is the factor by which the price changes at once at most. The room follows as the square
	// root, so that neither overshoots.
	budgetStep = 2
)

// Adjust changes the price after a look at what the caches hold, in bytes, and how much they may.
func (b *Budget) Adjust(held, limit float64) {
	switch {
	case held > limit:
		if b.Price == 0 {
			b.Price = b.Base
		}
		b.Price *= min(held/limit, budgetStep)
		if held > 2*limit { // far away there is nothing to overshoot
			b.Price *= budgetStep
		}
	case held < budgetSlack*limit:
		b.Price *= max(held/(budgetSlack*limit), 1.0/budgetStep)
	}
	b.Price = min(b.Price, MostPrice*b.Base)
	if b.Price < LeastPrice*b.Base {
		b.Price = 0
	}
}
