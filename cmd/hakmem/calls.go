package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/hakmem/hakmem/bench/loops"
)

// memoryCalls are the system calls by which a process gets and returns memory. An strace that does
// not know a name that begins with ? ignores it.
const memoryCalls = "mmap,munmap,mremap,mprotect,madvise,?process_madvise,brk"

// traced returns the command under strace, which writes the memory system calls into file. ok is
// false if there is no strace.
func (cmd command) traced(file string) (traced command, ok bool) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return cmd, false
	}
	// With --seccomp-bpf all other calls run at full speed.
	args := []string{"-f", "-qq", "--seccomp-bpf", "-e", "trace=" + memoryCalls, "-e", "signal=none", "-o", file, cmd.path}
	return command{strace, append(args, cmd.args...), cmd.env}, true
}

// loopEnded reports whether file contains the mark of the loop's end. strace writes its lines one
// by one.
func loopEnded(file string) bool {
	text, err := os.ReadFile(file)
	_, end := loops.Marks()
	return err == nil && bytes.Contains(text, []byte("madvise("+end+","))
}

// countCalls counts the calls between the two marks that a child makes.
func countCalls(file string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	begin, end := loops.Marks()
	_, text, ok := bytes.Cut(text, []byte("madvise("+begin+","))
	if !ok {
		return 0, fmt.Errorf("no mark of the beginning in %s", filepath.Base(file))
	}
	text, _, ok = bytes.Cut(text, []byte("madvise("+end+","))
	if !ok {
		return 0, fmt.Errorf("no mark of the end in %s", filepath.Base(file))
	}
	var n uint64
	for line := range bytes.Lines(text) {
		// A call that another thread interrupted has two lines.
		if bytes.ContainsRune(line, '(') && !bytes.Contains(line, []byte("resumed>")) {
			n++
		}
	}
	return n, nil
}
