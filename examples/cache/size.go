package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a number of bytes that is parsed and printed with a unit. It is a flag.Value.
type byteSize int64

// units are tried in this order: a unit comes before the units that it ends with ("MiB" before
// "B").
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1},
}

// parseSize reads a whole number of bytes: "4096", "64KiB", "2 GiB", "500MB".
// The case of the unit does not matter.
func parseSize(s string) (byteSize, error) {
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if cut := len(number) - len(u.name); cut >= 0 && strings.EqualFold(number[cut:], u.name) {
			number, factor = strings.TrimSpace(number[:cut]), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: write a whole number of bytes, or one with a unit, such as 65536, 512MiB or 2GiB", s)
	}
	if int64(n) > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is too large: the largest size is %d bytes", s, int64(math.MaxInt64))
	}
	return byteSize(int64(n) * factor), nil
}

// Set is part of flag.Value.
func (b *byteSize) Set(s string) (err error) {
	*b, err = parseSize(s)
	return err
}

// String uses the largest binary unit that divides the size.
func (b *byteSize) String() string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; *b != 0 && int64(*b)%u.bytes == 0 {
			return fmt.Sprint(int64(*b)/u.bytes, u.name)
		}
	}
	return fmt.Sprint(int64(*b))
}

// human returns about three digits in a unit that fits.
func human(bytes int64) string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; bytes >= u.bytes {
			return fmt.Sprintf("%.4g %s", float64(bytes)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprint(bytes, " B")
}
