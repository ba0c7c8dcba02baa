// Package report turns the results that `hakmem bench --json`, `hakmem compare --json` and `hakmem tune
// eval --out` write into one HTML page that needs nothing but itself.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/hakmem/hakmem/bench/result"
)

// Source is the contents of one file: a collection, or a single report in the form of a collection
// of one. What tune eval wrote has no reports.
type Source struct {
	Name string // of the file, without its directory
	result.Collection
	Tuning *result.Tuning // what tune eval wrote; else nil
}

const remedy = "give a file that `hakmem bench --json`, `hakmem compare --json` or `hakmem tune eval --out` wrote"

// Load reads result files. The error names the file, what was found in it, and what to give
// instead. What tune eval wrote has a page of its own: it is an error if both are given.
func Load(paths ...string) ([]Source, error) {
	var sources []Source
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w; %s", err, remedy)
		}
		s, err := parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; %s", path, err, remedy)
		}
		s.Name = filepath.Base(path)
		if len(sources) > 0 && (s.Tuning == nil) != (sources[0].Tuning == nil) {
			return nil, fmt.Errorf("%s: of %s and %s only one is from tune eval, which has a page of its own; give them one by one", path, paths[0], path)
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// parse recognises a file by its fields, so that its name does not matter.
func parse(data []byte) (s Source, err error) {
	c := &s.Collection
	if len(bytes.TrimSpace(data)) == 0 {
		return s, errors.New("the file is empty")
	}
	var any json.RawMessage
	if err := decode(data, &any); err != nil {
		return s, fmt.Errorf("not JSON: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := decode(any, &fields); err != nil || fields == nil {
		return s, fmt.Errorf("neither a report nor a collection of them: found %s", kind(any))
	}
	switch {
	case fields["tuning"] != nil:
		if s.Tuning, err = parseTuning(data); err != nil {
			return s, err
		}
		s.Collection = result.Collection{Command: s.Tuning.Command, Started: s.Tuning.Started, Seconds: s.Tuning.Seconds, Machine: s.Tuning.Machine}
		return s, nil
	case fields["reports"] != nil:
		if err := decode(data, c); err != nil {
			return s, fmt.Errorf("a collection with an unusable field: %w", err)
		}
	case fields["workload"] != nil && fields["results"] != nil:
		var r result.Report
		if err := decode(data, &r); err != nil {
			return s, fmt.Errorf("a report with an unusable field: %w", err)
		}
		*c = result.Collection{Command: r.Command, Started: r.Started, Machine: r.Machine, Reports: []result.Report{r}}
	default:
		return s, fmt.Errorf("neither a report (workload, results) nor a collection (reports): found %s", kind(any))
	}
	if len(c.Reports) == 0 {
		return s, errors.New("a collection without a report")
	}
	for i := range c.Reports {
		r := &c.Reports[i]
		if r.Workload == "" {
			return s, fmt.Errorf("report %d of %d names no workload", i+1, len(c.Reports))
		}
		if r.Machine == (result.Machine{}) {
			r.Machine = c.Machine
		}
		if c.Machine == (result.Machine{}) {
			c.Machine = r.Machine
		}
		r.Complete()
	}
	return s, nil
}

// parseTuning reads what tune eval wrote, and checks what the page relies on.
func parseTuning(data []byte) (*result.Tuning, error) {
	var t result.Tuning
	// The version decides how the rest is read, so it is looked at first.
	if err := decode(data, &struct {
		Version *int `json:"tuning"`
	}{&t.Version}); err != nil {
		return nil, fmt.Errorf("an evaluation with an unusable field: %w", err)
	}
	if t.Version < 1 || t.Version > result.TuningVersion {
		return nil, fmt.Errorf("version %d of an evaluation is not known: make it again, or use the hakmem that wrote it", t.Version)
	}
	if err := decode(data, &t); err != nil {
		return nil, fmt.Errorf("an evaluation with an unusable field: %w", err)
	}
	if len(t.Simulated) == 0 && (t.Real == nil || len(t.Real.Prices) == 0) {
		return nil, errors.New("an evaluation in which nothing was evaluated")
	}
	return &t, nil
}

// decode reads the one JSON value that data holds. Parameters stay numbers as they are written:
// 20000000 is not 2e+07.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("it ends too early")
		}
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more follows after the first value, at byte %d", d.InputOffset())
	}
	return nil
}

// kind says in words what a JSON value is.
func kind(value json.RawMessage) string {
	switch value[0] {
	case '{':
		var fields map[string]json.RawMessage
		if json.Unmarshal(value, &fields) != nil || len(fields) == 0 {
			return "an object without fields"
		}
		const shown = 5
		names := slices.Sorted(maps.Keys(fields))
		more := ""
		if len(names) > shown {
			names, more = names[:shown], ", ..."
		}
		return fmt.Sprintf("an object with %q%s", names, more)
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	default:
		return "a number"
	}
}

// known reports whether a figure can be shown. Reports hold 0 for a figure that is not known; an
// absurdly large or small figure is a mistake that would spoil the scale of a chart.
func known(v float64) bool { return v > 1e-9 && v < 1e18 }
