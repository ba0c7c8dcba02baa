package offheap_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/mapmodel"
	"github.com/hakmem/hakmem/offheap"
)

// machines are the machines of mapmodel for both maps, which also check the books.
var machines = map[string]func(mapmodel.Choose) *mapmodel.Machine{
	"Map": func(choose mapmodel.Choose) *mapmodel.Machine {
		m := mapmodel.OfNumbers{Map: new(offheap.Map[uint64, mapmodel.Value])}
		return mapmodel.New(m, choose, func() error { return offheap.CheckMap(m.Map) })
	},
	"StringMap": func(choose mapmodel.Choose) *mapmodel.Machine {
		m := mapmodel.OfStrings{StringMap: offheap.NewStringMap[mapmodel.Value]()}
		return mapmodel.New(m, choose, func() error { return offheap.CheckStringMap(m.StringMap) })
	},
}

// random runs programs of random steps.
func random(name string, seeds, steps int) error {
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		c := machines[name](func(_ string, n int) int { return r.IntN(n) })
		for range steps {
			if err := c.Step(); err != nil {
				return fmt.Errorf("%s, seed %d: %w", name, seed, err)
			}
		}
		if err := c.End(); err != nil {
			return fmt.Errorf("%s, seed %d, at the end: %w", name, seed, err)
		}
	}
	return nil
}

// TestMapModel: the maps do what Go's does, in loops whose bodies change the map, too.
func TestMapModel(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 8
	}
	if testkit.Race || asan.On { // they see nothing here, and take ten times as long
		seeds = 2
	}
	for name := range machines {
		if err := random(name, seeds, 100); err != nil {
			t.Error(err)
		}
	}
}

// TestMapModelNoLeaks: at the end nothing is left, and what is freed is freed once.
func TestMapModelNoLeaks(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for name := range machines {
		if err := random(name, 2, 60); err != nil {
			t.Error(err)
		}
	}
}

var _ = testkit.Child("map model", func(string) error {
	for name := range machines {
		if err := random(name, 2, 50); err != nil {
			return err
		}
	}
	return nil
})

// TestMapModelInModes: nothing is written outside of the blocks, or after their free.
func TestMapModelInModes(t *testing.T) { inModes(t, "map model") }

// tape gives the choices of a fuzz target: its bytes, and 0 after their end.
func tape(program []byte) (choose mapmodel.Choose, over func() bool) {
	return func(_ string, n int) int {
		v := 0
		for most := 1; most < n; most <<= 8 {
			b := byte(0)
			if len(program) > 0 {
				b, program = program[0], program[1:]
			}
			v = v<<8 | int(b)
		}
		return v % n
	}, func() bool { return len(program) == 0 }
}

func fuzzMap(f *testing.F, name string) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 10, 100, 300, 300, 1000} {
		program := make([]byte, n)
		for i := range program {
			program[i] = byte(r.Uint32())
		}
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		choose, over := tape(program)
		c := machines[name](choose)
		for steps := 0; !over() && steps < 100; steps++ {
			if err := c.Step(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.End(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzMap(f *testing.F)       { fuzzMap(f, "Map") }
func FuzzStringMap(f *testing.F) { fuzzMap(f, "StringMap") }
