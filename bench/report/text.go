package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// How figures, units and commands are written.

// notKnown stands for a figure that the report does not have.
const notKnown = "n/a"

// figure shows a number with about three significant digits.
func figure(v float64) string {
	if !known(v) {
		return notKnown
	}
	switch {
	case v < 0.001:
		return strconv.FormatFloat(v, 'e', 1, 64)
	case v < 0.1:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 1e7:
		return strconv.FormatFloat(v, 'f', 0, 64)
	default:
		return strconv.FormatFloat(v, 'e', 2, 64)
	}
}

// times shows a ratio.
func times(v float64) string {
	if !known(v) {
		return notKnown
	}
	return figure(v) + "×"
}

// inUnits shows v in the largest unit of which there is at least one. factors are those from each
// unit to the next.
func inUnits(v float64, units []string, factor float64) string {
	i := 0
	for v >= factor && i < len(units)-1 {
		v /= factor
		i++
	}
	decimals := 0
	switch {
	case v < 10:
		decimals = 2
	case v < 100:
		decimals = 1
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 { // 1.50 is 1.5
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text + " " + units[i]
}

// nanos shows a time given in nanoseconds.
func nanos(ns float64) string {
	if !known(ns) {
		return notKnown
	}
	return inUnits(ns, []string{"ns", "µs", "ms", "s"}, 1000)
}

var byteUnits = []string{"B", "KiB", "MiB", "GiB", "TiB"}

// size shows a number of bytes; 0 is not known.
func size(bytes float64) string {
	if bytes == 0 {
		return notKnown
	}
	return signedSize(bytes)
}

func signedSize(bytes float64) string {
	if bytes < 0 {
		return "−" + inUnits(-bytes, byteUnits, 1024)
	}
	return inUnits(bytes, byteUnits, 1024)
}

// byteUnit is the unit in which size shows a number, in bytes.
func byteUnit(bytes float64) float64 {
	unit := 1.0
	for range byteUnits[1:] {
		if bytes < unit*1024 {
			break
		}
		unit *= 1024
	}
	return unit
}

// seconds shows a number of seconds without its unit.
func seconds(s float64) string { return strconv.FormatFloat(s, 'g', 3, 64) }

// percentile shows u = log10(1/(1-p)) as p.
func percentile(u float64) string {
	p := 100 * (1 - math.Pow(10, -u))
	decimals := max(int(math.Ceil(u-0.001))-2, 0) + 1 // 99.9 for 3
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(p, 'f', decimals, 64), "0"), ".")
}

// count shows a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Shell joins a command so that a shell takes it apart the same way.
func Shell(command []string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=,:+@%"
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = w
		if w == "" || strings.Trim(w, plain) != "" {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
