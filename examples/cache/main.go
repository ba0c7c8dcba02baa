// Command cache puts two in-memory caches under the same load: package cache of hakmem, whose values are in
// hakmem's memory, and package lru, whose values are in the Go heap. Each run is a process of its own, so
// that garbage collection and resident memory of one run do not affect the other. The command
// prints both results side by side.
//
//	go run ./examples/cache
//	go run ./examples/cache -bytes 2GiB -seconds 10
//
// Every value read is verified against its key and length. The exit status is 0 after a good run, 1
// if it failed, and 2 if the flags make no sense.
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
	"slices"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/cache"
	"github.com/hakmem/hakmem/examples/cache/lru"
)

func main() {
	os.Exit(start(os.Args[1:], os.Stdout, os.Stderr))
}

// backend is a memory that the cache can run on.
type backend struct {
	name string
	run  func(cfg config, begin func() (keepGoing func() bool)) (result, error)
}

// backends in the order in which they run.
var backends = []backend{
	{"hakmem", on(newHakmem)},
	{"go", on(newGo)},
}

func on(make func(cfg config) (store, error)) func(config, func() func() bool) (result, error) {
	return func(cfg config, begin func() func() bool) (result, error) {
		cache, err := make(cfg)
		if err != nil {
			return result{}, err
		}
		defer cache.Close()
		return run(cfg, cache, begin)
	}
}

// onHakmem is a cache in hakmem's memory, onGo one in the Go heap. They have as many shards.
type (
	onHakmem struct{ *cache.Cache }
	onGo     struct{ *lru.Cache }
)

func newHakmem(cfg config) (store, error) {
	shards, err := lru.New(int64(cfg.bytes))
	if err != nil {
		return nil, err
	}
	c, err := cache.New(cache.Options{MaxBytes: int64(cfg.bytes), Shards: shards.Shards()})
	return onHakmem{c}, err
}

func newGo(cfg config) (store, error) {
	c, err := lru.New(int64(cfg.bytes))
	return onGo{c}, err
}

func (c onHakmem) counts() counts {
	s := c.Stats()
	return counts{s.Hits, s.Misses, s.Sets, s.Evicted, s.Entries, s.Bytes, s.ValueBytes}
}

func (c onGo) counts() counts {
	s := c.Stats()
	return counts{s.Hits, s.Misses, s.Sets, s.Evictions, s.Len, s.Bytes, s.ValueBytes}
}

// start is main, except that it returns the exit status instead of ending the process.
func start(args []string, stdout, stderr io.Writer) int {
	cfg := config{bytes: 256 << 20, seconds: 3, goroutines: runtime.GOMAXPROCS(0), min: 64, max: 16 << 10, read: 0.8}
	f := flag.NewFlagSet("cache", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Var(&cfg.bytes, "bytes", "limit of the cache, a `size`: 65536, 512MiB, 2GiB")
	f.Float64Var(&cfg.seconds, "seconds", cfg.seconds, "length of the load, after the cache is full")
	f.IntVar(&cfg.goroutines, "goroutines", cfg.goroutines, "goroutines that use the cache")
	f.Var(&cfg.min, "min", "`size` of the shortest value")
	f.Var(&cfg.max, "max", "`size` of the longest value")
	f.Float64Var(&cfg.read, "read", cfg.read, "share of the operations that read, 0 to 1")
	choice := f.String("backend", "both", "where values live: hakmem, go or both")
	child := f.Bool("child", false, "internal: run one backend in this process and print JSON")

	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		f.SetOutput(stdout)
		fmt.Fprintln(stdout, "cache runs one cache in hakmem's memory and one in the Go heap under the same load.\n\nFlags:")
		f.PrintDefaults()
		return 0
	case err == nil && f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: all settings are flags", f.Arg(0))
	case err == nil:
		err = cfg.validate()
	}
	chosen := slices.DeleteFunc(slices.Clone(backends), func(b backend) bool {
		return *choice != b.name && *choice != "both"
	})
	if err == nil && (len(chosen) == 0 || *child && len(chosen) > 1) {
		err = fmt.Errorf("-backend %q: choose hakmem, go or both", *choice)
	}
	if err != nil {
		fmt.Fprintf(stderr, "cache: %v\nRun with -help for all flags.\n", err)
		return 2
	}

	if *child {
		err = runChild(chosen[0], cfg, stdout)
	} else {
		var args []string // the flags that were set, in one form however they were written
		f.Visit(func(set *flag.Flag) { args = append(args, "-"+set.Name+"="+set.Value.String()) })
		err = runParent(chosen, cfg, args, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "cache:", err)
		return 1
	}
	return 0
}

// validate returns an error that names the flag, its value and a remedy.
func (c *config) validate() error {
	const leastBytes, mostGoroutines, mostSeconds = 1 << 20, 1024, 24 * 60 * 60
	switch {
	case c.bytes < leastBytes:
		return fmt.Errorf("-bytes %v: a cache needs at least 1MiB", &c.bytes)
	case !(c.seconds > 0 && c.seconds <= mostSeconds): // NaN, too
		return fmt.Errorf("-seconds %v: choose more than 0 and at most %d", c.seconds, mostSeconds)
	case c.goroutines < 1 || c.goroutines > mostGoroutines:
		return fmt.Errorf("-goroutines %d: choose 1 to %d", c.goroutines, mostGoroutines)
	case !(c.read >= 0 && c.read <= 1):
		return fmt.Errorf("-read %v: choose a share between 0 and 1, such as 0.8", c.read)
	case c.min < 1:
		return fmt.Errorf("-min %v: the shortest value needs at least 1 byte", &c.min)
	case c.max < c.min:
		return fmt.Errorf("-max %v: it must not be less than -min, %v", &c.max, &c.min)
	}
	// A cache is built to find out how large a shard is; it allocates nothing yet.
	cache, err := lru.New(int64(c.bytes))
	if err != nil {
		return fmt.Errorf("-bytes %v: %w", &c.bytes, err)
	}
	// Both memories round up by an eighth at most.
	if room := byteSize(cache.ShardLimit()) / 8 * 7; c.max > room-keyLen {
		return fmt.Errorf("-max %v: a cache of %v takes values up to %d bytes; lower -max or raise -bytes", &c.max, &c.bytes, room-keyLen)
	}
	return nil
}

// runChild runs one backend in this process and prints its result as JSON.
func runChild(b backend, cfg config, stdout io.Writer) error {
	r, err := b.run(cfg, func() func() bool {
		var expired atomic.Bool
		time.AfterFunc(time.Duration(cfg.seconds*float64(time.Second)), func() { expired.Store(true) })
		return func() bool { return !expired.Load() }
	})
	if err != nil {
		return err
	}
	r.Backend = b.name
	return json.NewEncoder(stdout).Encode(r)
}

// runParent runs each backend in a process of its own and prints the table.
func runParent(chosen []backend, cfg config, args []string, stdout, stderr io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var results []result
	for _, b := range chosen {
		fmt.Fprintf(stderr, "%s: filling %v, then %v s of load …\n", b.name, &cfg.bytes, cfg.seconds)
		cmd := exec.Command(program, append(slices.Clone(args), "-backend="+b.name, "-child")...)
		cmd.Stderr = stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("the run of %s failed: %w", b.name, err)
		}
		var r result
		if err := json.Unmarshal(out, &r); err != nil {
			return fmt.Errorf("the run of %s printed no result: %w", b.name, err)
		}
		results = append(results, r)
	}
	fmt.Fprintf(stdout, "\n%v cache, values of %v to %v, %.0f %% reads, %d goroutines on %d Ps, %s %s/%s\n\n",
		&cfg.bytes, &cfg.min, &cfg.max, 100*cfg.read, cfg.goroutines, results[0].Procs, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	_, err = io.WriteString(stdout, table(results))
	return err
}
