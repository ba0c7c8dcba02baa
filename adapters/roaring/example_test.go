package hakmemroaring_test

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	hakmemroaring "github.com/hakmem/hakmem/adapters/roaring"
)

// The even numbers below a million are kept outside the Go heap. Their intersection with a range outlives them.
func Example() {
	even := roaring.New()
	for i := uint32(0); i < 1_000_000; i += 2 {
		even.Add(i)
	}
	v, err := hakmemroaring.Freeze(even, hakmemroaring.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}

	few := roaring.New()
	few.AddRange(100, 110)
	common := roaring.And(v.Bitmap(), few)
	common.CloneCopyOnWriteContainers() // common may use the View's memory
	v.Close()

	fmt.Println(common)
	// Output:
	// {100,102,104,106,108}
}
