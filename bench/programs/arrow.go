package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/math"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/scalar"

	hakmemarrow "github.com/hakmem/hakmem/adapters/arrow"
)

const (
	arrowRows = 1_000_000
	// arrowBatch is a usual length of a batch: 2^16 rows.
	arrowBatch = 1 << 16
	arrowCents = 10_000 // the largest price
)

var arrowSchema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "cents", Type: arrow.PrimitiveTypes.Int64},
	{Name: "city", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// runArrow builds a million rows, takes the third that costs most, and sums it up: first in one piece, whose
// buffers grow to some MiB, then in batches.
func runArrow(r *recorder) error {
	return r.turn(0, func() error {
		mem := hakmemarrow.New(hakmemarrow.Options{})
		ctx := compute.WithAllocator(context.Background(), mem)
		for _, batch := range []int{arrowRows, arrowBatch} {
			if err := sell(ctx, mem, batch); err != nil {
				return err
			}
		}
		if n := mem.AllocatedBytes(); n != 0 {
			return fmt.Errorf("%d bytes were not released", n)
		}
		return nil
	})
}

// sell makes all rows in batches, filters each, joins what is left, and sums it up.
func sell(ctx context.Context, mem memory.Allocator, batch int) error {
	rng := rand.New(rand.NewPCG(1, 0))
	b := array.NewRecordBuilder(mem, arrowSchema)
	defer b.Release()
	id, cents, city := b.Field(0).(*array.Int64Builder), b.Field(1).(*array.Int64Builder), b.Field(2).(*array.StringBuilder)
	const dear = arrowCents * 2 / 3
	want := int64(0)
	var kept [][]arrow.Array // of each batch the columns
	defer func() {
		for _, columns := range kept {
			release(columns)
		}
	}()
	for from := 0; from < arrowRows; from += batch {
		for i := from; i < min(from+batch, arrowRows); i++ {
			price := rng.Int64N(arrowCents)
			if price > dear {
				want += price
			}
			id.Append(int64(i))
			cents.Append(price)
			if i%50 == 0 {
				city.AppendNull()
			} else {
				city.Append(cities[rng.IntN(len(cities))])
			}
		}
		rows := b.NewRecordBatch()
		columns, err := filter(ctx, rows, dear)
		rows.Release()
		if err != nil {
			return err
		}
		kept = append(kept, columns)
	}
	for column := range arrowSchema.NumFields() {
		var parts []arrow.Array
		for _, columns := range kept {
			parts = append(parts, columns[column])
		}
		joined, err := array.Concatenate(parts, mem)
		if err != nil {
			return err
		}
		sum := want
		if column == 1 {
			sum = math.Int64.Sum(joined.(*array.Int64))
		}
		joined.Release()
		if sum != want {
			return fmt.Errorf("the sum of all prices above %d is %d, want %d", dear, sum, want)
		}
	}
	return nil
}

var cities = [...]string{"Aachen", "Bern", "Clermont-Ferrand", "Delft", "Espoo", "Frankfurt an der Oder", "Graz"}

// filter returns the columns of the rows whose price is above dear. The columns are filtered one after another:
// FilterRecordBatch would do it in goroutines, in another order each time.
func filter(ctx context.Context, rows arrow.RecordBatch, dear int64) (columns []arrow.Array, err error) {
	price := compute.NewDatum(rows.Column(1))
	defer price.Release()
	above, err := compute.CallFunction(ctx, "greater", nil, price, compute.NewDatum(scalar.NewInt64Scalar(dear)))
	if err != nil {
		return nil, err
	}
	defer above.Release()
	chosen := above.(*compute.ArrayDatum).MakeArray()
	defer chosen.Release()
	for _, c := range rows.Columns() {
		some, err := compute.FilterArray(ctx, c, chosen, *compute.DefaultFilterOptions())
		if err != nil {
			release(columns)
			return nil, err
		}
		columns = append(columns, some)
	}
	return columns, nil
}

func release(columns []arrow.Array) {
	for _, c := range columns {
		c.Release()
	}
}
