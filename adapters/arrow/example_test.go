package hakmemarrow_test

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/math"

	hakmemarrow "github.com/hakmem/hakmem/adapters/arrow"
)

// A column of a million numbers is built and summed up, outside the Go heap.
func Example() {
	mem := hakmemarrow.New(hakmemarrow.Options{})

	b := array.NewInt64Builder(mem)
	for i := range int64(1_000_000) {
		b.Append(i)
	}
	column := b.NewInt64Array()
	b.Release()

	fmt.Println("sum:", math.Int64.Sum(column))
	fmt.Println("at least 8 MB:", mem.AllocatedBytes() >= int64(1_000_000*arrow.Int64SizeBytes))
	column.Release()
	fmt.Println("left:", mem.AllocatedBytes())
	// Output:
	// sum: 499999500000
	// at least 8 MB: true
	// left: 0
}
