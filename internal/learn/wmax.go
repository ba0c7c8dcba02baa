package learn

// WMaxFactors are the values of W_MAX: the most by which a cached large block may be larger than the
// request that it serves. The first is off: a block serves its own class only. The values are those of
// the C hakmem.
var WMaxFactors = [...]float64{1, 1.25, 1.5, 1.75}

// WMax chooses one of WMaxFactors. A larger factor serves more allocations from caches, and leaves more
// memory in blocks that did not need it. What a factor costs shows only while it is in force, so a Bandit
// chooses, and its play is a window of some seconds. A WMax has no clock. It is for one goroutine at a
// time.
type WMax struct {
	factorBandit
	// alive is for how long samples lived, in seconds, and died how many of them did. Both forget.
	alive, died float64
}

// WMaxWindow says what happened in a window. The costs are in seconds of CPU time.
type WMaxWindow struct {
	Seconds float64
	// Misses is how many large allocations their own magazine could not serve.
	Misses float64
	// CPU is what it took to serve them, page faults included, and to move blocks out of caches.
	CPU float64
	// Beyond is how many GiB the blocks that served smaller requests had beyond these.
	Beyond float64
	// Price is what a GiB costs that is held for a second.
	Price float64
}

const (
	// leastMisses is how many misses a window needs to count: their mean cost is then known within an
	// eighth if single ones vary as much as they cost.
	leastMisses = 64
	// lifeBelief is the mean life, in seconds, with which a WMax begins, counted as one sample that died.
	// At the default price of memory a block of 1 MiB that serves a request for 800 KiB costs 20 µs then:
	// 50 times what it saves if nothing is faulted in, and a sixth of the faults if everything is.
	lifeBelief = 1
)

// NewWMax returns a WMax that has seen nothing. Factor 1 is in force.
func NewWMax() *WMax { return &WMax{factorBandit: newFactorBandit(WMaxFactors[:])} }

// Lived notes what samples of blocks that served smaller requests went through since the last call: for
// how many seconds they lived, all together, and how many of them died.
func (w *WMax) Lived(seconds float64, died int) {
	w.alive += seconds
	w.died += float64(died)
}

// Life returns for how many seconds a block that serves a smaller request lives on average: the time that
// was seen of all lives over the number of those that ended, which is the estimate of greatest likelihood
// if blocks die at a constant rate, also where most lives have not ended (Epstein and Sobel, Life Testing,
// 1953).
func (w *WMax) Life() float64 { return (lifeBelief + w.alive) / (1 + w.died) }

// Factor returns the factor for the next window. With learning off it is the one that is adopted.
func (w *WMax) Factor(learning bool) float64 { return WMaxFactors[w.next(learning)] }

// Window counts a window in which the factor was in force that Factor returned last. It reports whether
// another factor was adopted, and returns the decision.
//
// What is compared is the cost of a second of the program. Nobody counts what magazines serve; and the cost
// of a miss would not do, since a block that serves a smaller request is missing in its own class: factors
// that cause misses would share their cost among more of them.
func (w *WMax) Window(x WMaxWindow) (d Decision, adopted bool) {
	life := w.Life()
	w.alive *= 1 - windowForgets
	w.died *= 1 - windowForgets
	if x.Misses < leastMisses {
		return Decision{}, false
	}
	d, adopted = w.window((x.CPU + x.Price*x.Beyond*life) / x.Seconds)
	d.Kind = KindWMax
	return d, adopted
}
