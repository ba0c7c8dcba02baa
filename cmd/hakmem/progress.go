package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress is a progress bar on a terminal. If the output is no terminal it writes nothing. It is
// for one goroutine.
type progress struct {
	out         io.Writer // nil: not a terminal
	done, total int
	start       time.Time
}

// newProgress returns a bar with total steps, which it shows if out is a terminal.
func newProgress(out io.Writer, total int) *progress {
	p := &progress{total: total, start: time.Now()}
	if f, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" && isTerminal(f) {
		p.out = out
	}
	return p
}

// doing shows the name of the current work.
func (p *progress) doing(what string) {
	if p.out == nil {
		return
	}
	const width = 24 // columns: leaves room for the words in a terminal of 80
	full := width * p.done / max(p.total, 1)
	left := ""
	if p.done > 0 {
		d := time.Since(p.start) / time.Duration(p.done) * time.Duration(p.total-p.done)
		left = fmt.Sprintf(", %v left", d.Round(time.Second))
	}
	// \x1b[K clears the rest of a longer previous line
	fmt.Fprintf(p.out, "\r[%s%s] %d/%d %s%s\x1b[K",
		strings.Repeat("#", full), strings.Repeat(".", width-full), p.done, p.total, what, left)
}

// step counts one step as done.
func (p *progress) step() { p.done++ }

// close removes the bar.
func (p *progress) close() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
