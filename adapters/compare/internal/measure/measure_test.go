package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

const size = 64 << 20

// hold makes a job that has memory of some size while it works.
func hold(held *[]byte) Job {
	return Job{
		Work: func(m *Meter) error {
			*held = make([]byte, size)
			for i := range *held {
				(*held)[i] = 1
			}
			var h Histogram
			h.Record(time.Millisecond)
			m.AddLatency(&h)
			m.AddSum(uint64(len(*held)))
			runtime.GC()
			return m.Phase("phase", func() error { return nil })
		},
		NextTo: func(m *Meter) error { m.Resident("resident"); return nil },
		Close:  func(*Meter) error { runtime.KeepAlive(*held); return nil },
		After:  func(m *Meter) error { m.Left("left"); return nil },
	}
}

// TestRun: what a job takes is in its result.
func TestRun(t *testing.T) {
	var held []byte
	r, err := Run(hold(&held), Setting{})
	if err != nil {
		t.Fatal(err)
	}
	if r.CPUKnown && r.CPUSeconds <= 0 {
		t.Errorf("the process took %v s of processor time to write %d bytes", r.CPUSeconds, size)
	}
	if r.Seconds <= 0 || r.Operations != 1 || r.P999 < time.Millisecond || r.Collections == 0 || r.GCSeconds <= 0 || r.Sum != size {
		t.Errorf("%+v", r)
	}
	for i, name := range []string{"phase", "resident", "left"} {
		if !r.MemoryKnown && i > 0 {
			break
		}
		if i >= len(r.Figures) || r.Figures[i].Name != name {
			t.Fatalf("figures %+v, want %q as number %d", r.Figures, name, i)
		}
	}
	if !r.MemoryKnown {
		t.Log("the system does not say how much memory is resident")
		return
	}
	const least = size * 9 / 10 // the kernel counts by the page and not at once
	if r.Peak < least || r.Left < least || r.AfterFree < least || r.Figures[1].Value < least>>20 {
		t.Errorf("%d bytes are held: %+v", size, r)
	}
}

// TestErrors: an error of any step ends the run.
func TestErrors(t *testing.T) {
	want := errors.New("it does not work")
	fail := func(*Meter) error { return want }
	well := func(*Meter) error { return nil }
	for name, j := range map[string]Job{
		"warm":       {Warm: func() error { return want }, Work: well},
		"work":       {Work: fail},
		"next to it": {Work: well, NextTo: fail},
		"close":      {Work: well, Close: fail},
		"after":      {Work: well, After: fail},
	} {
		if _, err := Run(j, Setting{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Together(3, func(g int) error {
		if g == 1 {
			return want
		}
		return nil
	}); !errors.Is(err, want) {
		t.Errorf("one of three goroutines: %v", err)
	}
}

// TestStart: a process prints the result of what its argument says.
func TestStart(t *testing.T) {
	prepared := ""
	p := Program{
		Prepare: func(s Setting) error { prepared = s.Dir; return nil },
		Start: func(s Setting) (Job, error) {
			if s.Variant != "good" {
				return Job{}, UnknownVariant(s)
			}
			return Job{Work: func(m *Meter) error { m.AddSum(uint64(s.Of(100))); return nil }}, nil
		},
	}
	var out bytes.Buffer
	if err := start(p, []string{`{"Comparison":"c","Variant":"good","Scale":0.5}`}, &out); err != nil {
		t.Fatal(err)
	}
	var r Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Sum != 50 {
		t.Errorf("%s, %v", &out, err)
	}
	if err := start(p, []string{`{"Dir":"d","Prepare":true}`}, &out); err != nil || prepared != "d" {
		t.Errorf("prepared %q, %v", prepared, err)
	}
	for arg, want := range map[string]string{
		"":                                  "go run ./adapters/compare",
		"{":                                 `the setting "{"`,
		`{"Comparison":"c","Variant":"no"}`: `"c" has no variant "no"`,
	} {
		var args []string
		if arg != "" {
			args = []string{arg}
		}
		if err := start(p, args, &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", arg, err, want)
		}
	}
	p.Prepare = nil
	if err := start(p, []string{`{"Comparison":"c","Prepare":true}`}, &out); err == nil || !strings.Contains(err.Error(), `"c" has nothing to prepare`) {
		t.Errorf("nothing to prepare: %v", err)
	}
}

func TestHistogram(t *testing.T) {
	var h, other Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	for i := range 1000 {
		h.Record(time.Duration(i+1) * time.Microsecond)
	}
	other.Record(time.Hour)
	h.Add(&other)
	if h.Count() != 1001 {
		t.Errorf("%d durations, want 1001", h.Count())
	}
	for q, want := range map[float64]time.Duration{0: time.Microsecond, 0.5: 501 * time.Microsecond, 0.9995: time.Hour} {
		if got := h.Quantile(q); got < want || got > want+want/32 {
			t.Errorf("quantile %v is %v, want %v to a 32nd more", q, got, want)
		}
	}
}
