package trace

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Distributions of sizes: their files, and the one that is built in.

// A Class is one row of a Distribution: the blocks of one size.
type Class struct {
	Size uint64  // bytes
	Rate float64 // allocations in a unit of time, the same for all classes
	Live float64 // blocks live at a time, on average
}

// A Distribution describes a program's blocks in its steady state.
type Distribution struct {
	Name    string
	Classes []Class
}

// Bounds of a distribution.
const (
	// maxQuantity bounds rates and live blocks. It is above what there can be, and far from where
	// sums of them lose their precision.
	maxQuantity = 1e18
	// maxClasses bounds the rows. Real distributions have 1,000; the tables that the generator
	// makes for this many take 32 MB for each thread.
	maxClasses = 1 << 19
)

//go:embed testdata/web.csv
var web []byte

// Builtin returns the distribution of that name. There is one: "web", which TestWeb made up out of
// log-normal distributions to look like a server's.
func Builtin(name string) (Distribution, error) {
	if name != "web" {
		return Distribution{}, fmt.Errorf("distribution %q: use web, or a file", name)
	}
	return ReadDistribution(bytes.NewReader(web), "web")
}

// ReadDistribution reads rows of "size, rate, live" to the end of r: a whole number of bytes from
// 1, and two numbers not below 0. A size may occur in more than one row. A row of titles may come
// first: three titles that each begin with a letter, in quotes or not, and are no numbers (NaN is
// one). Empty lines and lines that start with # do not count. Other rows, and a file without rows,
// are errors. The name is for messages and for the Distribution.
func ReadDistribution(r io.Reader, name string) (Distribution, error) {
	d := Distribution{Name: name}
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	titles := false
	line := 0
	for in.Scan() {
		line++
		text := strings.TrimSpace(in.Text())
		if line == 1 {
			text = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")) // the mark with which spreadsheets begin a text
		}
		if text == "" || text[0] == '#' {
			continue
		}
		if !titles && len(d.Classes) == 0 && isTitles(text) {
			titles = true
			continue
		}
		c, problem := parseClass(text)
		if problem == "" && len(d.Classes) == maxClasses {
			problem = fmt.Sprintf("the row behind %d others: merge rows of neighbouring sizes", maxClasses)
		}
		if problem != "" {
			return Distribution{}, fmt.Errorf("%s:%d: %.*q: %s", name, line, quoted, text, problem)
		}
		d.Classes = append(d.Classes, c)
	}
	if err := in.Err(); err == bufio.ErrTooLong {
		return Distribution{}, fmt.Errorf("%s:%d: longer than %d bytes: want rows of size, rate, live", name, line+1, maxLine)
	} else if err != nil {
		return Distribution{}, fmt.Errorf("%s:%d: %w", name, line+1, err)
	}
	if len(d.Classes) == 0 {
		return Distribution{}, fmt.Errorf("%s: no rows: want size, rate, live", name)
	}
	return d, nil
}

// isTitles distinguishes a row of titles from a mistyped row of numbers.
func isTitles(text string) bool {
	fields := strings.Split(text, ",")
	for _, field := range fields {
		field = strings.TrimLeft(strings.TrimSpace(field), `"`)
		first, _ := utf8.DecodeRuneInString(field)
		if _, err := strconv.ParseFloat(strings.TrimRight(field, `"`), 64); err == nil || !unicode.IsLetter(first) {
			return false
		}
	}
	return len(fields) == 3
}

func parseClass(text string) (c Class, problem string) {
	fields := strings.Split(text, ",")
	if len(fields) != 3 {
		return c, "want three fields: size, rate, live"
	}
	var err error
	if c.Size, err = strconv.ParseUint(strings.TrimSpace(fields[0]), 10, 64); err != nil || c.Size == 0 {
		return c, "size: want a whole number of bytes, from 1"
	}
	for i, v := range []*float64{&c.Rate, &c.Live} {
		*v, err = strconv.ParseFloat(strings.TrimSpace(fields[i+1]), 64)
		if err != nil || math.IsNaN(*v) || *v < 0 || *v > maxQuantity {
			return c, fmt.Sprintf("%s: want a number from 0 to %g", [...]string{"rate", "live"}[i], maxQuantity)
		}
	}
	return c, ""
}
