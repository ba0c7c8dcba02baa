package learn

// changeWindows is how many windows before a change are compared with how many after it: at half a second
// each, 6 s, as trials of huge pages took in the C hakmem.
const changeWindows = 12

// changeGain is by how much, as a share, the windows after a change must be cheaper, as in the C hakmem.
const changeGain = 0.015

// Change compares what something costs before a change and after it, where the change cannot be made to
// a part only. The costs are those of windows of equal length; a caller leaves out windows in which too
// little happened. What else changes at the same moment is taken for an effect of the change. The zero
// Change has seen nothing. A Change is for one goroutine at a time.
type Change struct {
	costs   [2][changeWindows]float64 // before and after; of those before the last ones
	windows [2]int
}

// Before adds a window before the change, and reports whether there are enough.
func (c *Change) Before(cost float64) bool { return c.add(0, cost) }

// After adds a window after the change, and reports whether there are enough.
func (c *Change) After(cost float64) bool { return c.add(1, cost) }

func (c *Change) add(side int, cost float64) (enough bool) {
	if sensible(cost) {
		c.costs[side][c.windows[side]%changeWindows] = cost
		c.windows[side]++
	}
	return c.windows[side] >= changeWindows
}

// Means returns what a window cost before the change and after it, on average, of a side that has enough.
func (c *Change) Means() (before, after float64) {
	var mean [2]float64
	for side := range mean {
		for _, x := range c.costs[side] {
			mean[side] += x / changeWindows
		}
	}
	return mean[0], mean[1]
}

// Asked returns what a window after the change may cost at most for a gain. There must be enough before it.
func (c *Change) Asked() float64 {
	before, _ := c.Means()
	return before * (1 - changeGain)
}

// Cheaper reports whether the windows after the change were cheaper by 1.5 %, and by more than three
// standard errors of the difference (trialSigmas). There must be enough on both sides.
func (c *Change) Cheaper() bool {
	before, after := c.Means()
	error2 := 0.0
	for side, mean := range [2]float64{before, after} {
		for _, x := range c.costs[side] {
			d := x - mean
			error2 += d * d / (changeWindows - 1) / changeWindows
		}
	}
	gain := before - after
	return after <= c.Asked() && gain > 0 && gain*gain > trialSigmas*trialSigmas*error2
}
