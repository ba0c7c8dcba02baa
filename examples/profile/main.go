// Command profile shows how to find a leak of memory outside the Go heap: it serves pretended requests, loses one buffer
// in ten, and writes hakmem's profile before and after. go tool pprof then names the line that allocates what is
// lost, which Go's own heap profile does not know of. With -leaks it lists at its end what it has lost, without a tool.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmempprof"
)

func main() {
	dir := flag.String("dir", os.TempDir(), "where to write the profiles")
	requests := flag.Int("requests", 100_000, "how many requests to serve between the two profiles")
	leaks := flag.Bool("leaks", false, "at the end list what was not freed; write no profiles")
	flag.Parse()
	rate := 64 << 10
	if *leaks {
		rate = 1 // each block is listed
	}
	err := configure(rate)
	switch {
	case err != nil:
	case *leaks:
		err = list(os.Stdout, *requests)
	default:
		err = run(os.Stdout, *dir, *requests)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
}

// configure turns the profile on, before the first allocation. HAKMEM_PROFILE_RATE=65536 does the same from outside.
func configure(rate int) error { return hakmem.Configure(hakmem.Options{ProfileRate: rate}) }

// list serves the requests and lists what they have lost. Most programs have one line for that at the beginning of main:
//
//	defer hakmempprof.WriteLeaks(os.Stderr)
func list(out io.Writer, requests int) error {
	serve(requests)
	return hakmempprof.WriteLeaks(out)
}

// run serves the requests and writes the profiles before.pprof and after.pprof.
func run(out io.Writer, dir string, requests int) error {
	before, after := filepath.Join(dir, "before.pprof"), filepath.Join(dir, "after.pprof")
	serve(requests / 10) // what a server has when it has warmed up
	if err := write(before); err != nil {
		return err
	}
	serve(requests)
	if err := write(after); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "now see which lines hold more than before:\ngo tool pprof -top -base=%s %s\n", before, after)
	return err
}

// write writes the profile to a file.
func write(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(hakmempprof.WriteProfile(f), f.Close())
}

// serve pretends to serve requests.
func serve(requests int) {
	for range requests {
		answer(64 + rand.IntN(4<<10))
	}
}

// answer needs two buffers for a request.
func answer(size int) {
	body := reads(size)
	text := renders(size)
	hakmem.FreeBytes(text)
	if size%10 != 0 { // the mistake
		hakmem.FreeBytes(body)
	}
}

//go:noinline
func reads(size int) []byte { return hakmem.Alloc(size) }

//go:noinline
func renders(size int) []byte { return hakmem.Alloc(2 * size) }
