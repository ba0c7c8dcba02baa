package export

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/hakmem/hakmem"
)

// Sample is what a live page shows of one moment. It encodes as JSON: hakmemhttp sends it, its page and
// `hakmem top` read it.
type Sample struct {
	Program string `json:"program"` // the name of the program's file, without its directory
	PID     int    `json:"pid"`
	// Time is the moment, in milliseconds since 1970. Every is the time until the next sample, and Took what
	// this one has cost, in milliseconds.
	Time  int64   `json:"time_ms"`
	Every float64 `json:"every_ms"`
	Took  float64 `json:"took_ms"`
	// Trim says that whoever looks may ask for a Trim.
	Trim bool `json:"trim"`
	// Profile is the path of the program's heap profile of hakmem, or empty.
	Profile string `json:"profile,omitempty"`
	// Figures are those of hakmem.Stats. One that is no number, or infinite, is left out.
	Figures Values    `json:"figures"`
	Region  RegionMap `json:"region"`
	// Words is what hakmem.Explain and hakmem.WriteBoard said, perhaps some samples ago.
	Words string `json:"words,omitempty"`
}

// RegionMap is what hakmem.ReadRegion returns, as so many cells that a screen has room for them. Used, Holes,
// Warm and Returned have a number for each cell, in KiB, together CellBytes. The last cell may be smaller.
type RegionMap struct {
	CellBytes uint64   `json:"cell_bytes"`
	Used      []uint32 `json:"used"`
	Holes     []uint32 `json:"holes"`
	Warm      []uint32 `json:"warm"`
	Returned  []uint32 `json:"returned"`
}

// maxCells is how many cells a map has at most: 32 rows of 32 still show on a telephone. Above 2 GiB a cell
// stands for several parts of the region.
const maxCells = 1024

// Sampler makes samples. One goroutine at a time.
type Sampler struct {
	Sites   MaxSites
	Trim    bool
	Profile string

	reader Reader
	parts  []hakmem.RegionPart
}

// Sample reads the statistics and the map of the region, and with words also what hakmem.Explain and
// hakmem.WriteBoard say. Every and Took are left to the caller. It costs what hakmem.ReadStats costs, twice that with words, and about a
// millisecond.
func (s *Sampler) Sample(words bool) Sample {
	x := Sample{
		Program: filepath.Base(os.Args[0]), PID: os.Getpid(), Time: time.Now().UnixMilli(),
		Trim: s.Trim, Profile: s.Profile, Figures: s.reader.Values(s.Sites),
	}
	x.Figures.dropOdd()
	s.parts = hakmem.ReadRegion(s.parts[:0])
	x.Region = mapOf(s.parts, maxCells)
	if words {
		var b bytes.Buffer
		err := hakmem.Explain(&b)
		if err == nil {
			fmt.Fprint(&b, "\nThe strategies that play against each other:\n")
			err = hakmem.WriteBoard(&b)
		}
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		x.Words = b.String()
	}
	return x
}

// dropOdd takes out what JSON cannot say.
func (v Values) dropOdd() {
	odd := func(_ string, x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }
	maps.DeleteFunc(v.Plain, odd)
	for _, by := range v.Labelled {
		maps.DeleteFunc(by, odd)
	}
}

// mapOf puts the parts into most cells or less.
func mapOf(parts []hakmem.RegionPart, most int) RegionMap {
	per := max((len(parts)+most-1)/most, 1)
	m := RegionMap{CellBytes: uint64(per) * hakmem.RegionPartBytes}
	cells := (len(parts) + per - 1) / per
	m.Used, m.Holes = make([]uint32, cells), make([]uint32, cells)
	m.Warm, m.Returned = make([]uint32, cells), make([]uint32, cells)
	for i, part := range parts { // each number of a part is a multiple of 4 KiB
		m.Used[i/per] += uint32(part.Used >> 10)
		m.Holes[i/per] += uint32(part.Holes >> 10)
		m.Warm[i/per] += uint32(part.Warm >> 10)
		m.Returned[i/per] += uint32(part.Returned >> 10)
	}
	return m
}

// Check returns an error if a sample that came from another process does not hold together: whoever draws it
// need not look again.
func (s *Sample) Check() error {
	n := len(s.Region.Used)
	if s.Time == 0 || s.Figures.Plain == nil || len(s.Region.Holes) != n || len(s.Region.Warm) != n || len(s.Region.Returned) != n {
		return errors.New("this is no sample of hakmem's, or one of another version: use the command of the version that the program is built with")
	}
	return nil
}
