package learn

import (
	"math"
	"reflect"
	"testing"
	"time"
)

// judgeCosts make sums that can be checked by hand. Break-even is 4 s, and a wait is long after 16 s.
var judgeCosts = Costs{Fault: 3, Return: 1, Hold: 1}

// judgedModel returns a Model of 1024 pages, 64 for each band, that keeps each page for 1 s whatever it sees.
func judgedModel() *Model {
	m := New(judgeCosts)
	m.grow(1024)
	for i := range m.share {
		for a, h := range Arms {
			m.share[i][a] = 0
			if h >= time.Second {
				m.share[i][a] = 1
			}
		}
	}
	m.Freeze(true)
	return m
}

func near(x, y float64) bool { return math.Abs(x-y) < 1e-9 }

// sampleNear reports whether two Samples are the same but for rounding.
func sampleNear(s, o Sample) bool {
	return near(s.CPU, o.CPU) && near(s.Faults, o.Faults) && near(s.Memory, o.Memory)
}

// TestScaledBy: an arm times a factor is the nearest arm.
func TestScaledBy(t *testing.T) {
	for _, test := range []struct {
		scale     float64
		hold, arm time.Duration
	}{
		{1, 0, 0}, {1, 450 * ms, 450 * ms}, {1, 64 * time.Second, 64 * time.Second},
		{2, 0, 0}, {2, 100 * ms, 200 * ms}, {2, 1000 * ms, 2000 * ms}, {2, 64 * time.Second, 64 * time.Second},
		{0.5, 1000 * ms, 450 * ms}, {0.5, 64 * time.Second, 32 * time.Second},
		{0.25, 100 * ms, 0}, {0.25, 1000 * ms, 300 * ms}, {0.25, 4000 * ms, 1000 * ms},
	} {
		to := scaledBy(test.scale)
		for a, h := range Arms {
			if h == test.hold && Arms[to[a]] != test.arm {
				t.Errorf("%v times %g is the arm %v, want %v", h, test.scale, Arms[to[a]], test.arm)
			}
		}
	}
}

// TestJudge: what known waits cost with a hold time of 1 s, with the best one, and with others. A page that is
// taken after t s costs t if it was kept until then, else 1 for each second that it was kept, and 4.
func TestJudge(t *testing.T) {
	m := judgedModel()
	m.Waited(0, 3, 500*ms)
	m.Waited(63, 2, 3*time.Second) // in the band of page 0
	m.Waited(1023, 1, 10*time.Second)
	m.Tick(time.Minute)
	j := m.Judge()
	// Band 0: 3 × 0.5 + 2 × 5. The last band: 5. Best is 4 s in band 0, with 3 × 0.5 + 2 × 3, and 0 s in the
	// last band, with 4.
	if j.Waits != 6 || !near(j.Realised, 16.5) || !near(j.Best, 11.5) || !near(j.Dearness(), 16.5/11.5) {
		t.Errorf("%g waits cost %g, at best %g; want 6, 16.5 and 11.5", j.Waits, j.Realised, j.Best)
	}
	for i, b := range j.Bands {
		waits, realised := 0.0, 0.0
		switch i {
		case 0:
			waits, realised = 5, 11.5
		case Bands - 1:
			waits, realised = 1, 5
		}
		if b.Waits != waits || !near(b.Realised, realised) {
			t.Errorf("in band %d %g waits cost %g, want %g and %g", i, b.Waits, b.Realised, waits, realised)
		}
	}
	// The arms next to 0.25, 0.5, 1 and 2 s are 0.3, 0.45, 1 and 2 s.
	for s, want := range [len(HoldScales)]Sample{
		{CPU: 24, Faults: 6, Memory: 6 * 0.3},
		{CPU: 24, Faults: 6, Memory: 6 * 0.45},
		{CPU: 12, Faults: 3, Memory: 3*0.5 + 3*1},
		{CPU: 12, Faults: 3, Memory: 3*0.5 + 3*2},
	} {
		if !sampleNear(j.Scaled[s], want) {
			t.Errorf("with hold times times %g: %+v, want %+v", HoldScales[s], j.Scaled[s], want)
		}
	}
	if j.Candidate != (Tally{}) || j.Rest != (Tally{}) {
		t.Errorf("without a trial: %+v and %+v", j.Candidate, j.Rest)
	}
	if j = m.Judge(); j != (Judgement{}) || j.Dearness() != 0 {
		t.Errorf("of nothing: %+v, dearness %g", j, j.Dearness())
	}
}

// TestJudgeOpen: of a page that still waits when that has become long, it is known that it was returned.
func TestJudgeOpen(t *testing.T) {
	m := judgedModel()
	m.Waits(0, 2)
	m.Tick(time.Minute)
	j := m.Judge()
	// 2 × (1 s and a return); at best two returns.
	if j.Waits != 2 || !near(j.Realised, 4) || !near(j.Best, 2) || !sampleNear(j.Scaled[2], Sample{CPU: 2, Memory: 2}) {
		t.Errorf("%+v", j)
	}
}

// TestJudgeScaled: with a scale the hold times in force are others, and those that are compared are not.
func TestJudgeScaled(t *testing.T) {
	m := judgedModel()
	m.SetScale(2)
	if h := m.Hold(0); h != 2*time.Second || m.Mean() != h {
		t.Errorf("pages are kept for %v, on average for %v, want 2 s", h, m.Mean())
	}
	m.Waited(0, 3, 500*ms)
	m.Waited(0, 2, 1500*ms)
	m.Tick(time.Minute)
	j := m.Judge()
	if !near(j.Realised, 4.5) || !sampleNear(j.Scaled[2], Sample{CPU: 8, Faults: 2, Memory: 3.5}) {
		t.Errorf("cost %g, without a scale %+v; want 3 × 0.5 + 2 × 1.5, and two faults with 3 × 0.5 + 2 × 1", j.Realised, j.Scaled[2])
	}
}

// TestJudgeTrial: the chunks of a trial have other hold times, and are counted apart.
func TestJudgeTrial(t *testing.T) {
	m := judgedModel()
	m.SetTrial(2, func(chunk uint32) bool { return chunk == 0 })
	if in, out := m.Hold(ChunkPages-1), m.Hold(ChunkPages); in != 2*time.Second || out != time.Second {
		t.Errorf("pages in the trial are kept for %v, others for %v, want 2 s and 1 s", in, out)
	}
	trial := func() {
		m.Waited(0, 3, 500*ms)
		m.Waited(0, 2, 3*time.Second)
		m.Waited(ChunkPages, 4, 3*time.Second)
		m.Tick(time.Minute)
	}
	for range 2 { // the second time nothing is left of the first
		trial()
		j := m.Judge()
		// The candidate's waits cost 3 × 0.5 + 2 × 6, at best 3 × 0.5 + 2 × 3; the rest 4 × 5, at best 4 × 3.
		if want := (Tally{Cost: 5 * 13.5 / 7.5, Decisions: 5}); !near(j.Candidate.Cost, want.Cost) || j.Candidate.Decisions != want.Decisions {
			t.Errorf("candidate %+v, want %+v", j.Candidate, want)
		}
		if want := (Tally{Cost: 4 * 20.0 / 12, Decisions: 4}); !near(j.Rest.Cost, want.Cost) || j.Rest.Decisions != want.Decisions {
			t.Errorf("rest %+v, want %+v", j.Rest, want)
		}
		if !near(j.Realised, 33.5) || j.Waits != 9 {
			t.Errorf("%g waits cost %g, want 9 and 33.5", j.Waits, j.Realised)
		}
	}
	m.SetTrial(1, nil)
	trial()
	if j := m.Judge(); j.Candidate != (Tally{}) || !near(j.Realised, 31.5) || m.Hold(0) != time.Second {
		t.Errorf("after the trial: candidate %+v; all cost %g, want 31.5; pages are kept for %v", j.Candidate, j.Realised, m.Hold(0))
	}
}

// TestFreeze: while a Model is frozen it judges what it sees, and learns nothing from it.
func TestFreeze(t *testing.T) {
	m := New(judgeCosts)
	m.grow(1024)
	see := func() {
		for page := range uint32(1024) {
			m.Waited(page, 4, 20*time.Second)
		}
		m.Tick(time.Minute)
	}
	m.Freeze(true)
	before, hold := m.Snapshot(), m.Mean()
	see()
	if !reflect.DeepEqual(m.Snapshot(), before) || m.Mean() != hold {
		t.Errorf("a frozen Model learns: pages are kept for %v, were for %v", m.Mean(), hold)
	}
	if j := m.Judge(); j.Waits != 4096 || j.Dearness() < 1 {
		t.Errorf("a frozen Model judges %g waits, dearness %g", j.Waits, j.Dearness())
	}
	m.Freeze(false)
	m.Tick(time.Minute)
	if !reflect.DeepEqual(m.Snapshot(), before) {
		t.Error("what a Model saw while it was frozen is learnt later")
	}
	see()
	if m.Mean() > hold/2 {
		t.Errorf("after waits of 20 s pages are kept for %v, were for %v", m.Mean(), hold)
	}
}

func TestSetScalePanics(t *testing.T) {
	for _, scale := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("SetScale(%g) does not panic", scale)
				}
			}()
			New(judgeCosts).SetScale(scale)
		}()
	}
}
