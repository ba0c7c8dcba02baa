// Command compare runs what Go programs use today and the same on hakmem, side by side, and prints a table in
// Markdown for docs/programs.md.
//
//	go run ./adapters/compare NAME [-runs 5] [-scale 1] [-variants all] [-goroutines N] [-later DURATION]
//
// NAME is one of
//
//	sqlite            SQLite in memory: its allocator, or hakmem's in its place
//	sqlite-pagecache  parallel readers of one SQLite database: which page cache
//	arrow             10^7 rows of Apache Arrow: the Go heap, or hakmem
//	fastcache         fastcache, or the adapter in its place
//	map               10^7 entries: Go's map, cockroachdb/swiss, the same with adapters/swiss, offheap.Map
//	cache             package cache and other in-memory caches
//
// The programs are built first. Each variant runs in a process of its own. Every run of all variants is made
// before the next run of any, so that what changes on the machine meanwhile meets all of them; the table has the
// medians. All variants get the same work, and their answers must be the same.
//
// It needs the go command, a module proxy, and a clone of hakmem around the working directory. SQLite takes some minutes
// to compile, the first time. The exit status is 0 after a good run, 1 if it failed or answers differ, and 2 if
// the arguments make no sense.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

func main() { os.Exit(start(os.Args[1:], os.Stdout, os.Stderr)) }

// settings is what the command line says.
type settings struct {
	comparison comparison // with the chosen variants and loads only
	runs       int
	scale      float64
	words      io.Writer // progress
	now        func() time.Time
}

const (
	// defaultRuns is odd, so that the median is one of the runs.
	defaultRuns = 5
	maxRuns     = 1000 // more is a typing error
	// leastScale leaves ten entries of 10^7.
	leastScale = 1e-6
	// mostScale: machines with 100 times the memory that the largest comparison takes are rare.
	mostScale     = 100
	maxGoroutines = 1024
	maxLater      = time.Hour
)

// start is main, except that it returns the exit status instead of ending the process.
func start(args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "compare: %v\n", err)
		return 2
	}
	t, err := s.run()
	if err == nil {
		err = t.print(stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "compare: %v\n", err)
		return 1
	}
	return 0
}

// parse reads the command line. The name may stand before the flags or behind them.
func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{words: stderr, now: time.Now}
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(io.Discard) // start prints the error
	f.IntVar(&s.runs, "runs", defaultRuns, "how often each variant runs; the table has the medians")
	f.Float64Var(&s.scale, "scale", 1, "the `share` of the full size that is run")
	names := f.String("variants", "all", "`names` of variants with commas between them; the first is what the others are compared with")
	goroutines := f.Int("goroutines", 0, "so many goroutines instead of those of the comparison")
	later := f.Duration("later", -1, "the time from the close to the look at what is still resident, instead of that of the comparison")
	f.Usage = func() {
		fmt.Fprintf(stderr, "usage: compare NAME [flags], with a NAME of %s, and these flags:\n", strings.Join(comparisonNames(), ", "))
		f.SetOutput(stderr)
		f.PrintDefaults()
		f.SetOutput(io.Discard)
	}
	name := ""
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if args = f.Args(); len(args) == 0 {
			break
		}
		if name != "" {
			return nil, fmt.Errorf("%q and %q: one comparison at a time", name, args[0])
		}
		name, args = args[0], args[1:]
	}
	c, err := find(name)
	if err != nil {
		return nil, err
	}
	if err := c.choose(*names); err != nil {
		return nil, err
	}
	switch {
	case s.runs < 1 || s.runs > maxRuns:
		return nil, fmt.Errorf("-runs %d: choose 1 to %d", s.runs, maxRuns)
	case !(s.scale >= leastScale && s.scale <= mostScale):
		return nil, fmt.Errorf("-scale %v: choose %v to %v", s.scale, leastScale, mostScale)
	case *goroutines < 0 || *goroutines > maxGoroutines:
		return nil, fmt.Errorf("-goroutines %d: choose 1 to %d", *goroutines, maxGoroutines)
	case *later != -1 && (*later < 0 || *later > maxLater):
		return nil, fmt.Errorf("-later %v: choose 0 to %v", *later, maxLater)
	}
	if *goroutines > 0 {
		c.loads = []int{*goroutines}
	}
	if *later != -1 {
		c.later = *later
	}
	s.comparison = c
	return s, nil
}

// machine says on what the numbers were measured.
func machine() string {
	text := fmt.Sprintf("%s, %s/%s, %d processors", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	for _, v := range os.Environ() { // what changes the numbers
		for _, prefix := range []string{"HAKMEM_", "GOGC=", "GOMEMLIMIT=", "GOMAXPROCS=", "GODEBUG=", "GOEXPERIMENT="} {
			if strings.HasPrefix(v, prefix) {
				text += ", " + v
			}
		}
	}
	return text
}
