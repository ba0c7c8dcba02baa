package hakmemswiss_test

import (
	"fmt"

	"github.com/cockroachdb/swiss"

	hakmemswiss "github.com/hakmem/hakmem/adapters/swiss"
)

// A map of a hundred thousand numbers, of which the collector sees only the directory.
func Example() {
	a := hakmemswiss.New[swiss.Group[int, float64]](hakmemswiss.Options{})
	m := swiss.New(0, swiss.WithAllocator[int, float64](a))

	for i := range 100_000 {
		m.Put(i, float64(i)/2)
	}
	half, ok := m.Get(77)
	fmt.Println(half, ok, m.Len())
	fmt.Println("at least 16 bytes an entry:", a.AllocatedBytes() >= 1_600_000)

	m.Close() // all of it goes back
	fmt.Println("left:", a.AllocatedBytes())
	// Output:
	// 38.5 true 100000
	// at least 16 bytes an entry: true
	// left: 0
}
