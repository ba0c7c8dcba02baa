// Command programs runs small programs on hakmem and records the calls that each makes. The recordings lie
// in bench/recorded, and each is a workload of the command hakmem: `hakmem compare sqlite`.
//
//	go run ./bench/programs                      # all programs, into bench/recorded
//	go run ./bench/programs -o DIR sqlite cache  # two of them, into another directory
//
// A program does the same each time: its random numbers start from a fixed seed, it has one P, the garbage
// collector is off, and its environment is the same everywhere, without HAKMEM_ settings. So a recording changes
// only with the program, with the versions in this module's go.mod, or with hakmem's adapters. One differs a little
// each time: package cache hashes keys with a random seed, and sometimes forgets the hash of an entry that it
// evicted.
//
// SQLite gets its memory from modernc.org/memory. The command therefore builds itself anew, with
// adapters/moderncmemory in the place of that module, and runs each program in a process of its own. It needs
// the go command, a module proxy, and the tree of hakmem around the working directory.
//
// The exit status is 0 after a good run, 1 if something failed, and 2 if the flags make no sense.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() { os.Exit(start(os.Args[1:], os.Stdout, os.Stderr)) }

// A program makes calls of hakmem, in the turns of its threads.
type program struct {
	name string
	run  func(*recorder) error
	// varies says that a few calls in the second half of the recording differ each time.
	varies bool
}

// programs lists the programs. Each name is that of a workload and of its file in bench/recorded.
var programs = []program{
	{name: "sqlite", run: runSQLite},
	{name: "arrow", run: runArrow},
	{name: "cache", run: runCache, varies: true},
}

// choose returns the programs with the given names; all of them when no name is given.
func choose(names []string) (chosen []program, err error) {
	var known []string
	for _, p := range programs {
		known = append(known, p.name)
		if len(names) == 0 || slices.Contains(names, p.name) {
			chosen = append(chosen, p)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no program %q: use some of %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// start is main, except that it returns the exit status instead of ending the process.
func start(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("programs", flag.ContinueOnError)
	f.SetOutput(stderr)
	output := f.String("o", "", "the `directory` for the recordings; bench/recorded without it")
	child := f.Bool("child", false, "internal: run one program in this process and write its recording to the standard output")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	chosen, err := choose(f.Args())
	if err == nil && *child && len(chosen) != 1 {
		err = fmt.Errorf("-child takes one program, got %d", len(chosen))
	}
	if err != nil {
		fmt.Fprintln(stderr, "programs:", err)
		return 2
	}
	if *child {
		err = writeRecording(stdout, chosen[0])
	} else {
		err = recordAll(chosen, *output, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "programs:", err)
		return 1
	}
	return 0
}

// recordAll records the programs, each in a process of a build that has all its memory from hakmem.
func recordAll(chosen []program, output string, stdout, stderr io.Writer) error {
	dirs, err := directories()
	if err != nil {
		return err
	}
	if output == "" {
		output = filepath.Join(dirs[ours+"/bench"], "recorded")
	}
	temp, err := os.MkdirTemp("", "hakmem-programs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	built, err := build(dirs, temp)
	if err != nil {
		return err
	}
	for _, p := range chosen {
		recording, err := runChild(built, p.name, stderr)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		file := filepath.Join(output, p.name+".gz")
		if err := replaceFile(file, recording); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s: %d bytes\n", file, len(recording))
	}
	return nil
}

// replaceFile writes a file so that it is either as before or complete.
func replaceFile(name string, contents []byte) error {
	unfinished := name + ".new"
	if err := os.WriteFile(unfinished, contents, 0o644); err != nil {
		return err
	}
	return os.Rename(unfinished, name)
}
