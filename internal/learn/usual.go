package learn

import "math"

// usual is the mean of a figure over the last windows of LEARN, and how much the figure varies. Older
// windows count less.
type usual struct {
	// A value counts as worse if it is above the mean by this share of it, above least, and above what
	// chance explains.
	share, least float64

	n        float64 // windows, up to usualWindows
	mean     float64
	variance float64
	recent   [rowWindows]float64 // the last values, the newest first
	row      int                 // how many values in a row were worse
}

// known reports whether x is a figure. 0 stands for none, and what is not finite is none either.
func known(x float64) bool { return x > 0 && !math.IsInf(x, 1) }

// add adds a value. The first usualWindows have the same weight, then each new one has a share of
// 1/usualWindows (West, Updating mean and variance estimates, CACM 22, 1979).
func (u *usual) add(x float64) {
	u.n = min(u.n+1, usualWindows)
	d := x - u.mean
	u.mean += d / u.n
	u.variance = (1 - 1/u.n) * (u.variance + d*d/u.n)
	u.note(x)
}

// note makes x the last value.
func (u *usual) note(x float64) {
	copy(u.recent[1:], u.recent[:])
	u.recent[0] = x
}

// steady reports whether the last values are nearly the same.
func (u *usual) steady() bool {
	least, most := math.Inf(1), 0.0
	for _, x := range u.recent {
		least, most = min(least, x), max(most, x)
	}
	return u.n >= leastWindows && most <= least*(1+steady)
}

// limit returns the value above which others are worse, or 0 if too few are known.
func (u *usual) limit() float64 {
	if u.n < leastWindows {
		return 0
	}
	return max(u.mean*(1+u.share), u.least, u.mean+noise*math.Sqrt(u.variance))
}

// compare counts how many values in a row are worse, x being the next.
func (u *usual) compare(x float64) {
	u.note(x)
	if limit := u.limit(); limit > 0 && x > limit {
		u.row++
	} else {
		u.row = 0
	}
}

// scale multiplies the usual value by a factor, and how much it varies as well.
func (u *usual) scale(by float64) {
	u.mean *= by
	u.variance *= by * by
}

func (u *usual) figure() Figure { return Figure{u.mean, u.limit(), u.recent[0], u.row} }
