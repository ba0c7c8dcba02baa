// Command compare puts package cache of hakmem and other in-memory caches under the same load, each in a process of
// its own, and prints a table in Markdown.
//
//	go run ./cache/compare
//	go run ./cache/compare -mib 2048 -ops 20000000
//
// Keys are drawn by popularity: the k-th has the weight 1/(k+1)^1.01, among four times as many as fit. The length of a
// value follows from its key, from 64 to 4096 bytes, evenly over the logarithm. A read that misses sets the key,
// and one operation in twenty sets it in any case. Each value read is verified. Every cache is given the same
// number of bytes, and counts in its own way what it takes: so the resident memory is in the table, next to the
// hit rate that it buys.
//
// The exit status is 0 after a good run, 1 if it failed or a value was wrong, and 2 if the flags make no sense.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

func main() { os.Exit(start(os.Args[1:], os.Stdout, os.Stderr)) }

// start is main, except that it returns the exit status instead of ending the process.
func start(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(stderr)
	var l load
	f.Int64Var(&l.MiB, "mib", 256, "`MiB` that each cache is given")
	f.IntVar(&l.Ops, "ops", 4_000_000, "operations that are measured, after half as many that are not")
	f.IntVar(&l.Goroutines, "goroutines", runtime.GOMAXPROCS(0), "goroutines that use the cache")
	names := f.String("caches", "all", "names with commas between them")
	child := f.String("child", "", "internal: run this cache in this process and print JSON")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	chosen, err := choose(*names)
	switch {
	case err != nil:
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: all settings are flags", f.Arg(0))
	case l.MiB < 32 || l.MiB > 1<<20: // fastcache has 32 MiB at least
		err = fmt.Errorf("-mib %d: choose 32 to %d", l.MiB, 1<<20)
	case l.Ops < 1000:
		err = fmt.Errorf("-ops %d: choose at least 1000", l.Ops)
	case l.Goroutines < 1 || l.Goroutines > 1024:
		err = fmt.Errorf("-goroutines %d: choose 1 to 1024", l.Goroutines)
	}
	if err != nil {
		fmt.Fprintf(stderr, "compare: %v\n", err)
		return 2
	}
	if *child != "" {
		err = runChild(*child, l, stdout)
	} else {
		err = runAll(chosen, l, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "compare:", err)
		return 1
	}
	return 0
}

// choose returns the makers of the named caches.
func choose(names string) (chosen []maker, err error) {
	if names == "all" {
		return makers, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(makers, func(m maker) bool { return m.name == name })
		if i < 0 {
			var all []string
			for _, m := range makers {
				all = append(all, m.name)
			}
			return nil, fmt.Errorf("-caches: there is no cache %q: choose of %s", name, strings.Join(all, ","))
		}
		chosen = append(chosen, makers[i])
	}
	return chosen, nil
}

func runChild(name string, l load, stdout io.Writer) error {
	chosen, err := choose(name)
	if err != nil {
		return err
	}
	c, err := chosen[0].make(l.MiB<<20, l.entries())
	if err != nil {
		return err
	}
	defer c.close()
	return json.NewEncoder(stdout).Encode(l.run(c))
}

// runAll runs each cache in a process of its own, and prints the table.
func runAll(chosen []maker, l load, stdout, stderr io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d MiB for each cache, %d operations by %d goroutines on %d Ps, %s %s/%s\n\n",
		l.MiB, l.Ops, l.Goroutines, runtime.GOMAXPROCS(0), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprint(stdout, "| cache | version | operations per second | 99.9th percentile | hit rate | resident | peak | collections |\n|---|---|---|---|---|---|---|---|\n")
	for _, m := range chosen {
		fmt.Fprintf(stderr, "%s …\n", m.name)
		cmd := exec.Command(program, "-child", m.name, fmt.Sprint("-mib=", l.MiB), fmt.Sprint("-ops=", l.Ops), fmt.Sprint("-goroutines=", l.Goroutines))
		cmd.Stderr = stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("the run of %s: %w", m.name, err)
		}
		var r result
		if err := json.Unmarshal(out, &r); err != nil {
			return fmt.Errorf("the run of %s printed %q: %w", m.name, out, err)
		}
		if r.Wrong > 0 {
			return fmt.Errorf("%s returned %d values that were not set", m.name, r.Wrong)
		}
		fmt.Fprintf(stdout, "| %s | %s | %.0f | %v | %.1f %% | %s | %s | %d |\n", m.name, versionOf(m.module),
			r.OpsPerSecond, r.P999, 100*r.HitRate, mib(r.Resident), mib(r.Peak), r.Collections)
	}
	return nil
}

// versionOf returns the version of a module that this program was built with.
func versionOf(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == module && d.Version != "(devel)" {
				return d.Version
			}
		}
	}
	return "of this tree"
}

func mib(bytes int64) string {
	if bytes == 0 {
		return "n/a"
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
