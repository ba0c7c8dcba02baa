package hakmem

import (
	"iter"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:generate go test -count=1 -run TestFiguresHelp . -update

// Figure is one figure of Stats, with what a monitoring system wants to know of it.
type Figure struct {
	// Name is the figure's name, in lower case with underscores between the words: "live_bytes".
	// The last word is the unit; the name of a counter has _total behind the unit. There is no
	// prefix: an exporter may put hakmem_ in front.
	Name string `json:"name"`
	// Labels tell apart the figures that have the same name: by "class" (the size of its blocks in
	// bytes), "cache", "phase" or "site" (its name). A figure that is alone with its name has no
	// label. Other figures share the slice: do not modify it.
	Labels []Label `json:"labels,omitempty"`
	// Help is the first sentence of the field's doc comment, without the field's name.
	Help string `json:"help"`
	// Kind is Counter for a number that grows while the program runs, and Gauge for a value that
	// may also fall.
	Kind string `json:"kind"`
	// Unit is what Value counts: bytes, seconds, blocks, calls and so on. It is empty for a
	// boolean.
	Unit string `json:"unit,omitempty"`
	// Value is the value of the field: exact up to 2^53, in seconds for a time.Duration, 1 or 0 for
	// a boolean.
	Value float64 `json:"value"`
}

// Label is one label of a Figure.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// The kinds of a Figure.
const (
	Gauge   = "gauge"
	Counter = "counter"
)

// Figures returns an iterator over every figure of s, in the order of the fields: each number and
// each boolean of Stats, of the structs in it, and of the elements of its slices. Figures with the
// same name have different labels. Errors has no figure.
//
// The figures are those that ReadStats put into s; nothing else is read. The iterator uses
// reflection and Go memory. A program without sites has some 640 figures, of which most are those
// of size classes; all of them take some 25 µs and 3 KB. The loop's body may use this package.
// Nobody may change s during the loop.
//
// Names are stable: from v1 on a figure keeps its name, kind, unit and labels within a major
// version. Any release may add figures, and change help texts and the order.
func (s *Stats) Figures() iter.Seq[Figure] {
	return func(yield func(Figure) bool) { yieldFigures(reflect.ValueOf(s).Elem(), nil, yield) }
}

// yieldFigures yields the figures of a struct, which all have the given labels.
func yieldFigures(v reflect.Value, labels []Label, yield func(Figure) bool) bool {
	fields := statFieldsOf(v.Type())
	for i := range fields {
		if f := &fields[i]; f.role == isLabel {
			labels = append(labels[:len(labels):len(labels)], Label{f.name, labelOf(v.Field(f.index))})
		}
	}
	for i := range fields {
		f := &fields[i]
		field := v.Field(f.index)
		switch f.role {
		case isStruct:
			own := labels
			if f.name != "" {
				own = append(labels[:len(labels):len(labels)], Label{f.name, f.value})
			}
			if !yieldFigures(field, own, yield) {
				return false
			}
		case isSlice:
			for j := range field.Len() {
				if !yieldFigures(field.Index(j), labels, yield) {
					return false
				}
			}
		case isFigure:
			if !yield(Figure{Name: f.name, Labels: labels, Help: f.help, Kind: f.kind, Unit: f.unit, Value: figureValue(field)}) {
				return false
			}
		}
	}
	return true
}

// statTag is the key of the tags that stats.go describes.
const statTag = "stat"

// statRole is what a field of Stats, or of a struct in it, is for its figures.
type statRole uint8

const (
	isFigure statRole = iota
	isLabel           // tells apart the figures of its struct
	isStruct          // a struct that has figures
	isSlice           // a slice of such structs
)

// statField is what the tag and the type of a field say.
type statField struct {
	index            int
	role             statRole
	name, value      string // of the figure or of the label; value is that of a struct's label
	kind, unit, help string
}

// statFields has the fields of each struct that was asked for: a reading of all tags takes ten times as long as
// one of all values.
var statFields sync.Map // reflect.Type to []statField

// statFieldsOf returns the fields of a struct that make figures.
func statFieldsOf(t reflect.Type) []statField {
	if known, ok := statFields.Load(t); ok {
		return known.([]statField)
	}
	var fields []statField
	for i := range t.NumField() {
		of, tag := t.Field(i).Type, t.Field(i).Tag.Get(statTag)
		f := statField{index: i}
		switch of.Kind() {
		case reflect.Struct:
			f.role = isStruct
			if name, value, ok := strings.Cut(tag, "="); ok {
				f.name, f.value = name, value
			}
		case reflect.Slice:
			if of.Elem().Kind() != reflect.Struct {
				continue
			}
			f.role = isSlice
		default:
			name, kind, ok := strings.Cut(tag, ",")
			if !ok {
				continue
			}
			if f.name = name; kind == "label" {
				f.role = isLabel
				break
			}
			f.kind, f.help = kind, figureHelp(name)
			if of.Kind() != reflect.Bool {
				bare := strings.TrimSuffix(name, "_total")
				f.unit = bare[strings.LastIndexByte(bare, '_')+1:]
			}
		}
		fields = append(fields, f)
	}
	statFields.Store(t, fields)
	return fields
}

// labelOf is the value of a field that tells the elements of a slice apart.
func labelOf(v reflect.Value) string {
	if v.CanUint() {
		return strconv.FormatUint(v.Uint(), 10)
	}
	return v.String()
}

// figureValue returns a field's value.
func figureValue(v reflect.Value) float64 {
	switch {
	case v.Kind() == reflect.Bool:
		if v.Bool() {
			return 1
		}
		return 0
	case v.Type() == reflect.TypeFor[time.Duration]():
		return time.Duration(v.Int()).Seconds()
	case v.CanInt():
		return float64(v.Int())
	case v.CanFloat():
		return v.Float()
	}
	return float64(v.Uint())
}
