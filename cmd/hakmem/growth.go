package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hakmem/hakmem/bench/trace"
)

// growth says how long a file was by a time since the start.
type growth struct {
	size int64
	at   time.Duration
}

// growthEvery is the time between two looks at a trace. A line waits for a tenth of a second before it is
// written (traceDelay in trace.go), so looking more often would say nothing more.
const growthEvery = 10 * time.Millisecond

// watchGrowth looks at a file that another process writes. The returned function ends that and returns what
// was seen; the last one is when it was called.
func watchGrowth(file string) (stop func() []growth) {
	start := time.Now()
	var list []growth
	look := func(last bool) {
		info, err := os.Stat(file)
		if err != nil {
			return
		}
		before := int64(0)
		if n := len(list); n > 0 {
			before = list[n-1].size
		}
		if info.Size() < before { // another process has replaced the trace
			list = nil
		}
		if info.Size() != before || last {
			list = append(list, growth{info.Size(), time.Since(start)})
		}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(growthEvery)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				look(false)
			}
		}
	}()
	return func() []growth {
		close(quit)
		<-done
		look(true)
		return list
	}
}

// addTimes copies the trace in a file to w, with a comment in front of the lines that a look has found, and
// one at the end. The first line stays the first.
func addTimes(w io.Writer, file string, grown []growth) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	in, out := bufio.NewReader(f), bufio.NewWriter(w)
	said := -1 // the look whose time was written last
	for i, offset := 0, int64(0); ; {
		line, err := in.ReadString('\n')
		for i < len(grown)-1 && grown[i].size <= offset {
			i++
		}
		if offset > 0 && line != "" && i != said && i < len(grown) {
			said = i
			writeTime(out, grown[i].at)
		}
		offset += int64(len(line))
		out.WriteString(line) // an error stays with out until Flush
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if n := len(grown); n > 0 && grown[n-1].size > 0 {
		writeTime(out, grown[n-1].at)
	}
	return out.Flush()
}

func writeTime(w io.Writer, at time.Duration) {
	fmt.Fprintf(w, "%s%d\n", trace.TimeComment, at.Milliseconds())
}
