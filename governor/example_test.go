package governor_test

import (
	"fmt"
	"sync"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/governor"
)

func Example() {
	g, err := governor.Start(governor.Options{Total: 1 << 30}) // without Total: the container's limit
	if err != nil {
		fmt.Println(err)
		return
	}
	defer g.Close()
	// The program works. Then, or at any time:
	if err := g.Err(); err != nil {
		fmt.Println("memory:", err)
	}
	soft, _ := hakmem.MemoryLimit()
	fmt.Println("hakmem has a part:", 0 < soft && soft < 1<<30)
	// Output: hakmem has a part: true
}

// What cannot be used is refused, with what to do about it.
func ExampleStart() {
	_, err := governor.Start(governor.Options{Total: 1 << 30, Reserve: 1 << 30})
	fmt.Println(err)
	// Output: governor: Options.Reserve of 1073741824 bytes is more than half of the total of 1073741824: use 536870912 at most, or 0 for a tenth
}

// cache has values off the heap.
type cache struct {
	mu     sync.Mutex
	values [][]byte
}

// shrink frees values until they are want bytes less, oldest first.
func (c *cache) shrink(want uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for freed := uint64(0); freed < want && len(c.values) > 0; c.values = c.values[1:] {
		freed += uint64(len(c.values[0]))
		hakmem.FreeBytes(c.values[0])
	}
}

// A cache registers what makes it smaller. The governor calls it when too much is alive in the process.
func ExampleOnPressure() {
	var c cache
	stop := governor.OnPressure(c.shrink)
	defer stop()

	for range 10 {
		c.values = append(c.values, hakmem.Alloc(1000))
	}
	c.shrink(2500) // as the governor would
	fmt.Println(len(c.values), "values are left")
	c.shrink(1 << 20)
	// Output: 7 values are left
}
