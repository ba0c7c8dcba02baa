package learn

// BatchFactors are what a Batch chooses from: factors of how many things a slow path does at a time, such
// as how many blocks a refill takes. The first changes nothing. Factors of 2 are steps that a fixed cost per
// batch shows by: it halves or doubles.
var BatchFactors = [...]float64{1, 0.5, 2}

// BatchKinds is how many kinds of batch there are. An allocator says by their numbers which are which.
const BatchKinds = 4

// BatchNames says what is done in batches of each kind.
var BatchNames = [BatchKinds]string{
	"refills of blocks up to 1 KiB", "refills of blocks up to 8 KiB", "refills of blocks up to 32 KiB", "searches for a slab",
}

// Batch chooses one of BatchFactors for one kind of batch. Large batches share the fixed cost of a slow path
// among more blocks, and move more that nobody wants; which is worth more shows only in use. So a Bandit
// chooses, and its play is a window of some seconds. A Batch has no clock. It is for one goroutine at a
// time.
type Batch struct {
	factorBandit
	kind uint32 // which kind of batch it is: Decision.Where
}

// NewBatch returns a Batch that has seen nothing. Factor 1 is in force.
func NewBatch(kind uint32) *Batch { return &Batch{newFactorBandit(BatchFactors[:]), kind} }

// Arm returns the place of the factor for the next window in BatchFactors. With learning off it is the one
// that is adopted.
func (b *Batch) Arm(learning bool) int { return b.next(learning) }

// Window counts a window in which the arm was in force that Arm returned last: what a block cost in it, in
// seconds of CPU time. It reports whether another factor was adopted, and returns the decision.
func (b *Batch) Window(cost float64) (d Decision, adopted bool) {
	d, adopted = b.window(cost)
	d.Kind, d.Where = KindBatch, b.kind
	return d, adopted
}
