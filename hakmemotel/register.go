// Package hakmemotel exports the statistics of hakmem to OpenTelemetry:
//
//	registration, err := hakmemotel.Register(otel.Meter("github.com/hakmem/hakmem"))
//
// Importing it registers nothing. It needs the API of OpenTelemetry only; the program chooses the SDK.
package hakmemotel

import (
	"context"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/export"
)

// Register makes an observable instrument of the meter for each figure of hakmem.Stats, and registers the
// callback that reads all of them when the SDK collects. Unregister of the registration ends that; it may be
// called at any time. After an error nothing is observed.
//
// Names follow OpenTelemetry's conventions for metrics. They begin with hakmem and have no unit in them: the
// figure live_bytes is hakmem.live with the unit By, drains_total is the counter hakmem.drains with the unit
// {drain}, class_live_blocks is hakmem.class.live_blocks with the attribute hakmem.class, and phase_seconds is
// hakmem.phase.time. A figure that counts something, or bytes, is an UpDownCounter, so that a sum over
// processes makes sense; a ratio, a time and a boolean are Gauges. All values are float64.
//
// The 100 sites with the most live bytes are named, and the others added up as the site "other". A collection
// costs what hakmem.ReadStats costs, and about half a millisecond. Any goroutine; collections wait for each
// other. Register with one meter once, or the figures are there twice.
func Register(m metric.Meter) (metric.Registration, error) {
	instruments := map[string]metric.Float64Observable{}
	var all []metric.Observable
	for _, f := range export.Names() {
		i, err := instrument(m, f)
		if err != nil {
			return nil, fmt.Errorf("hakmemotel: an instrument for %s: %w", f.Name, err)
		}
		instruments[f.Name] = i
		all = append(all, i)
	}
	var reader export.Reader
	return m.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		reader.Each(export.DefaultSites, func(f hakmem.Figure) bool {
			o.ObserveFloat64(instruments[f.Name], f.Value, attributesOf(f))
			return ctx.Err() == nil
		})
		return ctx.Err()
	}, all...)
}

// attributesOf returns the labels of a figure as attributes.
func attributesOf(f hakmem.Figure) metric.MeasurementOption {
	var list []attribute.KeyValue
	for _, l := range f.Labels {
		list = append(list, attribute.String(namespace+l.Name, strings.ToValidUTF8(l.Value, "\uFFFD")))
	}
	return metric.WithAttributes(list...)
}

// instrument makes the instrument for a figure.
func instrument(m metric.Meter, f hakmem.Figure) (metric.Float64Observable, error) {
	name, help, unit := nameOf(f), metric.WithDescription(f.Help), metric.WithUnit(unitOf(f))
	switch {
	case f.Kind == hakmem.Counter:
		return m.Float64ObservableCounter(name, help, unit)
	case f.Unit == "", f.Unit == "ratio", f.Unit == "seconds":
		return m.Float64ObservableGauge(name, help, unit)
	}
	return m.Float64ObservableUpDownCounter(name, help, unit)
}

// namespace is what all names of metrics and attributes begin with.
const namespace = "hakmem."

// nameOf returns the name of the metric for a figure. A figure with a label is in the label's namespace, if its
// name begins with that.
func nameOf(f hakmem.Figure) string {
	name := strings.TrimSuffix(f.Name, "_total")
	switch f.Unit {
	case "bytes", "ratio":
		name = strings.TrimSuffix(name, "_"+f.Unit)
	case "seconds":
		name = strings.TrimSuffix(name, f.Unit) + "time" // or the phases' would have no name
	}
	for _, l := range f.Labels {
		if rest, ok := strings.CutPrefix(name, l.Name+"_"); ok {
			name = l.Name + "." + rest
		}
	}
	return namespace + name
}

// unitOf returns a figure's unit as the Unified Code for Units of Measure (UCUM) writes it: what is counted stands in
// braces, in the singular.
func unitOf(f hakmem.Figure) string {
	switch unit := f.Unit; {
	case unit == "bytes":
		return "By"
	case unit == "seconds":
		return "s"
	case unit == "", unit == "ratio":
		return "1"
	case strings.HasSuffix(unit, "sses"), strings.HasSuffix(unit, "shes"), strings.HasSuffix(unit, "ches"):
		return "{" + strings.TrimSuffix(unit, "es") + "}"
	default:
		return "{" + strings.TrimSuffix(unit, "s") + "}"
	}
}
