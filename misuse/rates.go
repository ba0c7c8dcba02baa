package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"text/tabwriter"

	"github.com/hakmem/hakmem"
)

// With HAKMEM_GUARD=1/N one block in N, drawn at random, is guarded. The outcome of a single misuse
// is then chance, so this is not a level of the tables. What can be measured is how many of a large
// number are found.

// sampledRates are the values of HAKMEM_GUARD that -rates compares.
var sampledRates = []string{"1/10", "1/100", "1/1000"}

// mostMisuses bounds N of -rates. A misused block is not freed, so its place among the 16,384
// guarded ones stays in use; at the rate 1/10 each row of the table uses up N/10 of them.
const mostMisuses = 20_000

// sampledRows are the misuses: one of each kind that guarding can find, with a block of size bytes.
var sampledRows = []struct {
	title string
	size  uintptr
	do    func(p, size uintptr)
}{
	{"write of 1 byte behind 48", 48, func(p, size uintptr) { change(p+size, 1); free(p) }},
	{"read of 1 byte behind 48", 48, func(p, size uintptr) { read(p + size); free(p) }},
	{"read of 1 byte behind 4096", 4096, func(p, size uintptr) { read(p + size); free(p) }},
	{"write of 48 after free", 48, func(p, size uintptr) { free(p); change(p+size/2, 1) }},
	{"read of 48 after free", 48, func(p, size uintptr) { free(p); read(p + size/2) }},
	{"read of 4096 after free", 4096, func(p, size uintptr) { free(p); read(p + size/2) }},
}

// countCaught does each misuse n times and returns how many were found. The writes land in another
// block or in none, never in hakmem's metadata.
func countCaught(n int) []int {
	debug.SetGCPercent(-1) // see try
	caught := make([]int, len(sampledRows))
	done := make(chan struct{})
	go func() {
		defer close(done)
		growStack(128)
		for i, r := range sampledRows {
			for range n {
				p := addr(hakmem.Malloc(r.size))
				if kind, _, _ := report(func() { r.do(p, r.size) }); kind != "" {
					caught[i]++
				}
			}
		}
	}()
	<-done
	return caught
}

func printRates(w io.Writer, n int) error {
	if n > mostMisuses {
		return fmt.Errorf("-rates %d: use at most %d", n, mostMisuses)
	}
	r, err := newRunner("", nil)
	if err != nil {
		return err
	}
	defer r.close()
	got := make([][]int, len(sampledRates))
	for i, rate := range sampledRates {
		if got[i], err = r.caught(rate, n); err != nil {
			return err
		}
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "found of %d", n)
	for _, rate := range sampledRates {
		fmt.Fprintf(t, "\t%s", rate)
	}
	for j, row := range sampledRows {
		fmt.Fprintf(t, "\n%s", row.title)
		for i := range sampledRates {
			fmt.Fprintf(t, "\t%.2f %%", 100*float64(got[i][j])/float64(n))
		}
	}
	fmt.Fprintln(t)
	return t.Flush()
}

// caught runs countCaught in a process with HAKMEM_GUARD=rate.
func (r *runner) caught(rate string, n int) (counts []int, err error) {
	l := level{name: "guard " + rate, env: []string{"HAKMEM_GUARD=" + rate}}
	out, err := r.command(context.Background(), l, "-count-caught", fmt.Sprint(n)).Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return counts, json.Unmarshal(out, &counts)
}
