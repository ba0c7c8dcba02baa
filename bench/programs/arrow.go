package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/math"
	"github.com/apache/arrow-go/v18/arrow/memory"

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
		for _, batch := range []int{arrowRows, arrowBatch} {
			if err := sell(mem, batch); err != nil {
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
func sell(mem memory.Allocator, batch int) error {
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
		kept = append(kept, filter(mem, rows, dear))
		rows.Release()
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

// filter returns the columns of the rows whose price is above dear. It makes an array that says which these are, and
// from that each column. (Arrow's own package compute does it alike, and takes a minute and a half to compile.)
func filter(mem memory.Allocator, rows arrow.RecordBatch, dear int64) (columns []arrow.Array) {
	choose := array.NewBooleanBuilder(mem)
	defer choose.Release()
	choose.Reserve(int(rows.NumRows()))
	n := 0
	for _, price := range rows.Column(1).(*array.Int64).Int64Values() {
		choose.Append(price > dear)
		if price > dear {
			n++
		}
	}
	chosen := choose.NewBooleanArray()
	defer chosen.Release()
	for _, c := range rows.Columns() {
		b := array.NewBuilder(mem, c.DataType())
		b.Reserve(n)
		for i := range c.Len() {
			switch {
			case !chosen.Value(i):
			case c.IsNull(i):
				b.AppendNull()
			default:
				appendValue(b, c, i)
			}
		}
		columns = append(columns, b.NewArray())
		b.Release()
	}
	return columns
}

// appendValue appends the i-th value of a column of arrowSchema to a builder of the same type.
func appendValue(b array.Builder, c arrow.Array, i int) {
	switch c := c.(type) {
	case *array.Int64:
		b.(*array.Int64Builder).Append(c.Value(i))
	case *array.String:
		b.(*array.StringBuilder).Append(c.Value(i))
	}
}

func release(columns []arrow.Array) {
	for _, c := range columns {
		c.Release()
	}
}
