package learn

// factorBandit is a Bandit whose arms are factors, and whose plays are windows of some seconds: one factor is
// in force in each. It is for one goroutine at a time.
type factorBandit struct {
	bandit  *Bandit
	factors []float64 // the first is in force in the beginning
	played  int       // the place of the one in force in the window that has begun
}

func newFactorBandit(factors []float64) factorBandit {
	return factorBandit{bandit: NewBandit(len(factors), windowRules()), factors: factors}
}

// next returns the place of the factor for the next window. With learning off it is the one that is adopted.
func (f *factorBandit) next(learning bool) int {
	f.played = f.bandit.Choice()
	if learning {
		f.played = f.bandit.Next()
	}
	return f.played
}

// Adopted returns the factor that is adopted.
func (f *factorBandit) Adopted() float64 { return f.factors[f.bandit.Choice()] }

// window counts a window in which the factor was in force that next returned last, and what it cost. It
// reports whether another factor was adopted, and returns the decision, for the caller to say of what.
func (f *factorBandit) window(cost float64) (d Decision, adopted bool) {
	before, was := f.bandit.Choice(), f.bandit.Adoptions()
	f.bandit.Played(f.played, cost)
	after := f.bandit.Choice()
	return Decision{
		From: f.factors[before], To: f.factors[after],
		Predicted: f.bandit.Mean(after), Applied: true,
	}, f.bandit.Adoptions() != was
}
