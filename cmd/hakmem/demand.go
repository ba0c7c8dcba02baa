package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hakmem/hakmem/bench/trace"
	"github.com/hakmem/hakmem/internal/learn/sim"
)

// A demand file says how many pages a program uses over time; docs/traces.md has the format. A trace with
// times says it, too.

const (
	// demandTitles is the first line of a demand file.
	demandTitles = "time_ms,level_pages"
	// maxDemandTime bounds the times of a demand file: a day has 864,000 ticks of the simulator.
	maxDemandTime = 24 * time.Hour
	// maxDemandPages bounds its levels: 64 GiB in pages of 64 KiB, for which a simulation takes some 20 MB.
	maxDemandPages = 1 << 20
	// maxDemandLine is the longest line, in bytes. Two numbers have fewer than 40; the rest may be a comment.
	maxDemandLine = 4 << 10
)

// openDemand reads the demand of a file, which is a demand file or a trace.
func openDemand(name string) (*sim.Placed, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("--trace: %w; name a demand file, or a trace that `hakmem record --times` wrote", err)
	}
	defer f.Close()
	in := bufio.NewReader(f)
	for _, begins := range []string{"hakmem trace", "\x1f\x8b", "PK"} { // of a trace, a gzip and a zip
		if start, _ := in.Peek(len(begins)); string(start) == begins {
			r, err := trace.Open(name)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return readTraceDemand(name, r)
		}
	}
	return readDemand(name, in)
}

// readDemand reads a demand file. Errors name the file, the line and the remedy.
func readDemand(name string, r io.Reader) (*sim.Placed, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxDemandLine)
	number, titled := 0, false
	var levels []sim.Level
	for lines.Scan() {
		number++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.FieldsFunc(line, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
		if !titled {
			if strings.Join(fields, ",") != demandTitles {
				return nil, fmt.Errorf("%s:%d: %.60q: the first line must be %q", name, number, line, demandTitles)
			}
			titled = true
			continue
		}
		l, err := demandLevel(fields)
		if err == nil && len(levels) > 0 && l.At < levels[len(levels)-1].At {
			err = fmt.Errorf("the time before is %d ms: sort the lines by time", levels[len(levels)-1].At.Milliseconds())
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %.60q: %w", name, number, line, err)
		}
		levels = append(levels, l)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%s:%d: the line is longer than %d bytes: this is no demand file", name, number+1, maxDemandLine)
	case err != nil:
		return nil, fmt.Errorf("%s:%d: %w", name, number+1, err)
	case !titled:
		return nil, fmt.Errorf("%s:%d: nothing to read: the first line must be %q", name, number+1, demandTitles)
	case len(levels) == 0 || levels[len(levels)-1].At == 0:
		return nil, fmt.Errorf("%s:%d: the demand has no length: its last line says when it ends", name, number+1)
	}
	return sim.PlaceLevels(name, levels), nil
}

// demandLevel reads the fields of a line.
func demandLevel(fields []string) (l sim.Level, err error) {
	if len(fields) != 2 {
		return l, fmt.Errorf("%d fields: want a time in ms and a level in pages, such as \"1500,900\"", len(fields))
	}
	ms, err := strconv.ParseUint(fields[0], 10, 64)
	if most := uint64(maxDemandTime.Milliseconds()); err != nil || ms > most {
		return l, fmt.Errorf("the time %.30q: use a whole number of ms from 0 to %d", fields[0], most)
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil || pages > maxDemandPages {
		return l, fmt.Errorf("the level %.30q: use a whole number of pages of 64 KiB from 0 to %d", fields[1], maxDemandPages)
	}
	return sim.Level{At: time.Duration(ms) * time.Millisecond, Pages: int(pages)}, nil
}
