package hakmem

import (
	"iter"
	"reflect"
	"strconv"
	"strings"
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
// of size classes; all of them take some 0.2 ms and 3 KB. The loop's body may use this package.
// Nobody may change s during the loop.
//
// Names are stable: from v1 on a figure keeps its name, kind, unit and labels within a major
// version. Any release may add figures, and change help texts and the order.
func (s *Stats) Figures() iter.Seq[Figure] {
	return func(yield func(Figure) bool) { yieldFigures(reflect.ValueOf(s).Elem(), nil, yield) }
}

// yieldFigures yields the figures of a struct, which all have the given labels.
func yieldFigures(v reflect.Value, labels []Label, yield func(Figure) bool) bool {
	t := v.Type()
	for i := range t.NumField() {
		if name, ok := strings.CutSuffix(t.Field(i).Tag.Get(statTag), ",label"); ok {
			labels = append(labels[:len(labels):len(labels)], Label{name, labelOf(v.Field(i))})
		}
	}
	for i := range t.NumField() {
		tag, field := t.Field(i).Tag.Get(statTag), v.Field(i)
		switch field.Kind() {
		case reflect.Struct:
			own := labels
			if name, value, ok := strings.Cut(tag, "="); ok {
				own = append(labels[:len(labels):len(labels)], Label{name, value})
			}
			if !yieldFigures(field, own, yield) {
				return false
			}
			continue
		case reflect.Slice:
			for j := range field.Len() {
				if e := field.Index(j); e.Kind() == reflect.Struct && !yieldFigures(e, labels, yield) {
					return false
				}
			}
			continue
		}
		name, kind, ok := strings.Cut(tag, ",")
		if !ok || kind == "label" {
			continue
		}
		value, unit := figureValue(field, name)
		if !yield(Figure{Name: name, Labels: labels, Help: figureHelp(name), Kind: kind, Unit: unit, Value: value}) {
			return false
		}
	}
	return true
}

// statTag is the key of the tags that stats.go describes.
const statTag = "stat"

// labelOf is the value of a field that tells the elements of a slice apart.
func labelOf(v reflect.Value) string {
	if v.CanUint() {
		return strconv.FormatUint(v.Uint(), 10)
	}
	return v.String()
}

// figureValue returns a field's value and its unit, which the figure's name ends with.
func figureValue(v reflect.Value, name string) (value float64, unit string) {
	name = strings.TrimSuffix(name, "_total")
	unit = name[strings.LastIndexByte(name, '_')+1:]
	switch {
	case v.Kind() == reflect.Bool:
		if v.Bool() {
			value = 1
		}
		return value, ""
	case v.Type() == reflect.TypeFor[time.Duration]():
		return time.Duration(v.Int()).Seconds(), unit
	case v.CanInt():
		return float64(v.Int()), unit
	case v.CanFloat():
		return v.Float(), unit
	}
	return float64(v.Uint()), unit
}
