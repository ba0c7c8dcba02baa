// Command arrow is the comparison "arrow": 10^7 rows are built, filtered and summed up, with the memory of arrow-go's
// default allocator and with hakmem's. The command compare starts it.
//
// What is filtered is written here: arrow-go's own package for it, compute, takes minutes to compile.
package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/math"
	"github.com/apache/arrow-go/v18/arrow/memory"

	hakmemarrow "github.com/hakmem/hakmem/adapters/arrow"
	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

func main() { measure.Main(measure.Program{Start: begin}) }

const fullRows = 10_000_000

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "value", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "name", Type: arrow.BinaryTypes.String},
}, nil)

func begin(s measure.Setting) (measure.Job, error) {
	var mem memory.Allocator
	switch s.Variant {
	case "Go's heap":
		mem = memory.NewGoAllocator()
	case "adapters/arrow":
		mem = hakmemarrow.New(hakmemarrow.Options{})
	default:
		return measure.Job{}, measure.UnknownVariant(s)
	}
	return measure.Job{
		Work: func(m *measure.Meter) error { return work(m, mem, s.Of(fullRows)) },
		Close: func(*measure.Meter) error {
			if a, ok := mem.(*hakmemarrow.Allocator); ok && a.AllocatedBytes() != 0 {
				return fmt.Errorf("%d bytes were not released", a.AllocatedBytes())
			}
			return nil
		},
	}, nil
}

func work(m *measure.Meter, mem memory.Allocator, rows int) error {
	var all, some arrow.RecordBatch
	steps := []struct {
		name string
		run  func() error
	}{
		{"build", func() error { all = build(mem, rows); return nil }},
		{"filter", func() (err error) { some, err = filter(mem, all); return err }},
		{"sum", func() error {
			defer all.Release()
			defer some.Release()
			for _, batch := range []arrow.RecordBatch{all, some} {
				sum, err := sumOf(batch)
				if err != nil {
					return err
				}
				m.AddSum(sum)
			}
			return nil
		}},
	}
	for _, s := range steps {
		if err := m.Phase(s.name, s.run); err != nil {
			return err
		}
	}
	return nil
}

// build makes the rows one after the other. One value in 16 is null.
func build(mem memory.Allocator, rows int) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	id, value, name := b.Field(0).(*array.Int64Builder), b.Field(1).(*array.Float64Builder), b.Field(2).(*array.StringBuilder)
	text := []byte("a name, and the number ")
	prefix := len(text)
	for i := range rows {
		id.Append(int64(i))
		if i%16 == 0 {
			value.AppendNull()
		} else {
			value.Append(float64(i % 1000))
		}
		text = strconv.AppendInt(text[:prefix], int64(i), 10)
		name.BinaryBuilder.Append(text)
	}
	return b.NewRecordBatch()
}

var errColumns = errors.New("the columns are not of the types that were built")

// columns returns the columns of a batch.
func columns(batch arrow.RecordBatch) (id *array.Int64, value *array.Float64, name *array.String, err error) {
	id, ok1 := batch.Column(0).(*array.Int64)
	value, ok2 := batch.Column(1).(*array.Float64)
	name, ok3 := batch.Column(2).(*array.String)
	if !ok1 || !ok2 || !ok3 {
		err = errColumns
	}
	return id, value, name, err
}

// filter copies the rows whose value is from 250 to below 750.
func filter(mem memory.Allocator, all arrow.RecordBatch) (arrow.RecordBatch, error) {
	id, value, name, err := columns(all)
	if err != nil {
		return nil, err
	}
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	toID, toValue, toName := b.Field(0).(*array.Int64Builder), b.Field(1).(*array.Float64Builder), b.Field(2).(*array.StringBuilder)
	for i := range id.Len() {
		if v := value.Value(i); value.IsValid(i) && v >= 250 && v < 750 {
			toID.Append(id.Value(i))
			toValue.Append(v)
			toName.Append(name.Value(i))
		}
	}
	return b.NewRecordBatch(), nil
}

// sumOf adds up the numbers of a batch and the lengths of its texts.
func sumOf(batch arrow.RecordBatch) (uint64, error) {
	id, value, name, err := columns(batch)
	if err != nil {
		return 0, err
	}
	sum := uint64(math.Int64.Sum(id))
	for i := range value.Len() {
		if value.IsValid(i) { // what a null has for a value is undefined
			sum += uint64(value.Value(i))
		}
		sum += uint64(name.ValueLen(i))
	}
	return sum, nil
}
