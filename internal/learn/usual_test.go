package learn

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestUsual: the mean and the standard deviation are those of the values, and later those of the last ones.
func TestUsual(t *testing.T) {
	u := usual{share: worse}
	sum, squares := 0.0, 0.0
	r := rand.New(rand.NewPCG(1, 7))
	for n := 1.0; n <= usualWindows; n++ {
		x := 100 + 30*r.NormFloat64()
		u.add(x)
		sum, squares = sum+x, squares+x*x
		mean := sum / n
		want := mean + noise*math.Sqrt(max(squares/n-mean*mean, 0))
		if n < leastWindows {
			mean, want = u.mean, 0
		}
		if math.Abs(u.mean-mean) > 1e-9*mean || math.Abs(u.limit()-want) > 1e-9*want {
			t.Fatalf("after %g values the mean is %g and the limit %g, want %g and %g", n, u.mean, u.limit(), mean, want)
		}
	}
	for range 20 * usualWindows {
		u.add(5)
	}
	if math.Abs(u.mean-5) > 0.01 || u.limit() > 6.1 {
		t.Errorf("after many values of 5 the mean is %g, the limit %g", u.mean, u.limit())
	}
}

// TestUsualScale: with the mean the limit is scaled, by which of its terms it may be.
func TestUsualScale(t *testing.T) {
	for _, share := range []float64{0.01, 1} {
		u := usual{share: worse}
		r := rand.New(rand.NewPCG(2, 7))
		for range usualWindows {
			u.add(vary(r, 10, share))
		}
		was := u.limit()
		if u.scale(0.5); math.Abs(u.limit()/was-0.5) > 1e-9 {
			t.Errorf("values vary by %g: scaled by a half, the limit goes from %g to %g", share, was, u.limit())
		}
	}
}
