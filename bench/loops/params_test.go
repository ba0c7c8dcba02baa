package loops

import "testing"

func TestThreadSeed(t *testing.T) {
	p := Params{Seed: 1<<32 - 1}
	if a, b := p.threadSeed(0), p.threadSeed(1); a != 1<<32-1 || b == 0 {
		t.Errorf("seeds %d and %d", a, b)
	}
}
