package learn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// A policy file holds a Snapshot as JSON, with what must agree for it to be of use.

// fileFormat and fileVersion are what a policy file begins with. The version changes when older
// programs could not read what is written.
const (
	fileFormat  = "hakmem policy"
	fileVersion = 1
)

// mostFile bounds what is read of a policy file. One has some 40 KiB, and with rules for 65,535 sites with
// names of 100 bytes each 12 MiB.
const mostFile = 16 << 20

// file is the content of a policy file.
type file struct {
	Format      string    `json:"format"`
	Version     int       `json:"version"`
	ArmsSeconds []float64 `json:"arms_seconds"` // the hold times, which are the bounds of the bins
	Policy      Snapshot  `json:"policy"`
	// State is the State of the process that wrote the file. It is read only where it is asked for: it has
	// names of decisions, to which newer versions add, and says nothing that a process begins with.
	State json.RawMessage `json:"state,omitempty"`
}

func armsSeconds() (list []float64) {
	for _, h := range Arms {
		list = append(list, h.Seconds())
	}
	return list
}

// Write writes s as a policy file, with the state of the process if that is not nil.
func (s Snapshot) Write(w io.Writer, state *State) error {
	f := file{Format: fileFormat, Version: fileVersion, ArmsSeconds: armsSeconds(), Policy: s}
	if state != nil {
		var err error
		if f.State, err = json.Marshal(state); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	if len(text) >= mostFile {
		return fmt.Errorf("the policy file would have %d bytes, more than %d, because of the names of its sites", len(text), mostFile)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// ReadSnapshot reads a policy file. It returns an error if that is damaged, of a newer version, or
// something else.
func ReadSnapshot(r io.Reader) (Snapshot, error) {
	f, err := readFile(r)
	return f.Policy, err
}

// ReadState returns the state of the process that wrote a policy file. Its errors are those of
// ReadSnapshot, and one if the file has no state, as merged files have none.
func ReadState(r io.Reader) (State, error) {
	f, err := readFile(r)
	switch {
	case err != nil:
		return State{}, err
	case len(f.State) == 0 || string(f.State) == "null":
		return State{}, errors.New("the policy file does not say how the learner stood: take one that a process has exported")
	}
	var state State
	if err := json.Unmarshal(f.State, &state); err != nil {
		return State{}, fmt.Errorf("how the learner stood is damaged in the policy file, or was written by a newer hakmem: %w", err)
	}
	for _, x := range state.Touch {
		if x.Arm >= nTouchArms {
			return State{}, fmt.Errorf("the policy file is damaged: there is no way %d to fault memory in", x.Arm)
		}
	}
	for _, p := range state.Board {
		if p.Strategy < 0 || p.Strategy >= nStrategies {
			return State{}, fmt.Errorf("the policy file is damaged: there is no strategy %d", p.Strategy)
		}
	}
	return state, nil
}

// readFile reads and checks a policy file.
func readFile(r io.Reader) (file, error) {
	text, err := io.ReadAll(io.LimitReader(r, mostFile+1))
	if err != nil {
		return file{}, err
	}
	if len(text) > mostFile {
		return file{}, fmt.Errorf("more than %d bytes: this is no policy file", mostFile)
	}
	var f file
	// The version decides how the rest is read, so it is looked at first.
	if err := json.Unmarshal(text, &struct {
		Format  *string `json:"format"`
		Version *int    `json:"version"`
	}{&f.Format, &f.Version}); err != nil {
		return file{}, fmt.Errorf("this is no policy file, or a damaged one: %w", err)
	}
	switch {
	case f.Format != fileFormat:
		return file{}, fmt.Errorf("the format is %q, that of a policy file is %q", f.Format, fileFormat)
	case f.Version > fileVersion:
		return file{}, fmt.Errorf("version %d of the policy file is newer than %d, which this hakmem reads: export it again, or use a newer hakmem", f.Version, fileVersion)
	case f.Version < 1:
		return file{}, fmt.Errorf("there is no version %d of policy files", f.Version)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return file{}, fmt.Errorf("the policy file is damaged: %w", err)
	}
	arms := armsSeconds()
	same := len(f.ArmsSeconds) == len(arms)
	for i := range arms {
		same = same && f.ArmsSeconds[i] == arms[i]
	}
	if !same {
		return file{}, errors.New("the policy file has other hold times than this hakmem: export it again")
	}
	return f, f.Policy.Check()
}

// Check returns an error if s could not be restored.
func (s Snapshot) Check() error {
	if !s.Costs.valid() {
		return fmt.Errorf("learn: costs %+v are not finite and positive", s.Costs)
	}
	if s.Pages > mostPages {
		return fmt.Errorf("learn: %d pages, want at most %d", s.Pages, mostPages)
	}
	if err := checkRules(s.Sites); err != nil {
		return err
	}
	if err := checkSizes(s.Sizes); err != nil {
		return err
	}
	if s.Holes != nil {
		if !s.Holes.onlyModel() {
			return errors.New("learn: what is known of holes has holes, sites, block sizes, fresh blocks, factors or a board of its own")
		}
		if err := s.Holes.Check(); err != nil {
			return fmt.Errorf("%w, of holes", err)
		}
	}
	if s.Touch != nil {
		if err := s.Touch.check(); err != nil {
			return err
		}
	}
	if s.WMax != nil {
		if err := s.WMax.check(); err != nil {
			return err
		}
	}
	if err := checkBatches(s.Batches); err != nil {
		return err
	}
	if s.Board != nil {
		if err := NewBoard(0).Restore(*s.Board); err != nil {
			return fmt.Errorf("%w, of the board", err)
		}
	}
	return New(s.Costs).Restore(s)
}

// mostPages is the number of pages in the largest region, 1 TiB.
const mostPages = 1 << 24

// Samples returns how many waits s has seen, as far as it remembers them.
func (s Snapshot) Samples() (n float64) {
	for i := range s.Bands {
		var b band
		if s.Bands[i].imported(&b) == nil {
			n += b.mass()
		}
	}
	return n
}

// Merge returns what both s and o have learnt, each weighed by the number of its samples, rules of sites,
// block sizes, factors and the board too; of how memory is faulted in it takes the one with more plays. The
// costs are those of s. A band stands for the same share of the pages in both.
func (s Snapshot) Merge(o Snapshot) (Snapshot, error) {
	if err := errors.Join(s.Check(), o.Check()); err != nil {
		return Snapshot{}, err
	}
	m := New(s.Costs)
	pages := max(s.Pages, o.Pages)
	total := s.Samples() + o.Samples()
	for _, x := range []Snapshot{s, o} {
		if x.Pages == 0 || total == 0 {
			continue
		}
		// As many samples for each page as it has, times its part of all.
		f := float64(pages) / float64(x.Pages) * x.Samples() / total
		var b band
		for i := range m.seen {
			if err := x.Bands[i].imported(&b); err != nil {
				return Snapshot{}, err
			}
			m.seen[i].add(&b, f)
		}
		if err := x.All.imported(&b); err != nil {
			return Snapshot{}, err
		}
		m.all.add(&b, f)
	}
	m.pages = pages
	both := m.Snapshot()
	both.Sites = mergeRules(s.Sites, o.Sites)
	both.Sizes = mergeSizes(s.Sizes, o.Sizes)
	both.Touch = mergeTouch(s.Touch, o.Touch)
	both.WMax = s.WMax.merge(o.WMax)
	both.Batches = mergeBatches(s.Batches, o.Batches)
	both.Board = s.Board.merge(o.Board)
	switch {
	case s.Holes == nil:
		both.Holes = o.Holes
	case o.Holes == nil:
		both.Holes = s.Holes
	default:
		holes, err := s.Holes.Merge(*o.Holes)
		if err != nil {
			return Snapshot{}, err
		}
		both.Holes = &holes
	}
	return both, both.Check()
}

// MeanHolds returns the mean hold time of each band in seconds, at the costs c.
func (s Snapshot) MeanHolds(c Costs) ([]float64, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	m := New(c)
	if err := m.Restore(s); err != nil {
		return nil, err
	}
	list := make([]float64, Bands)
	for i := range list {
		list[i] = math.Round(m.mean(i)*1000) / 1000
	}
	return list, nil
}
