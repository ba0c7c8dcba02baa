package environments_test

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// fromGo are the system calls of Go's runtime that a program makes in one run and not in another.
var fromGo = strings.Fields(`clock_gettime clone clone3 epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 eventfd2 exit
	exit_group futex getpid gettid nanosleep clock_nanosleep restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn
	sched_getaffinity sched_yield sigaltstack tgkill timer_create timer_delete timer_settime`)

var stracePattern = regexp.MustCompile(`(?m)^\d+ +(\w+)\(`)

// TestSystemCallsMade: a program with hakmem makes no system call that the table does not have,
// apart from those that it makes without hakmem.
func TestSystemCallsMade(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("skipped: no strace: ", err)
	}
	if out, err := exec.Command(strace, "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("skipped: strace may not trace here: %v: %s", err, out)
	}
	modes(t)
	dir := t.TempDir()
	with, without := filepath.Join(dir, "with"), filepath.Join(dir, "without")
	run(t, "", "go", "build", "-o", with, "./testdata/calls")
	run(t, "", "go", "build", "-tags", "without_hakmem", "-o", without, "./testdata/calls")
	trace := func(program string, settings ...string) callSet {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
		defer cancel()
		list := filepath.Join(dir, "strace")
		cmd := exec.CommandContext(ctx, strace, "-f", "-o", list, program)
		cmd.Env = append(os.Environ(), settings...)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ok\n" {
			t.Fatalf("%s under strace, %v: %v\n%s", program, settings, err, out)
		}
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		calls := callSet{}
		for _, m := range stracePattern.FindAllSubmatch(text, -1) {
			calls[string(m[1])] = true
		}
		return calls
	}
	known := trace(without)
	maps.Copy(known, trace(without, "CALLS_LIMIT=1"))
	for _, c := range fromGo {
		known[c] = true
	}
	listed := callSet{}
	for _, p := range readCallPaths(t) {
		maps.Copy(listed, p.calls)
	}
	ticks := "HAKMEM_DECAY_MS=20"
	for _, settings := range [][]string{
		{ticks}, {ticks, "CALLS_LIMIT=1"}, {ticks, "HAKMEM_GUARD=1/50", "HAKMEM_THP=always"}, {ticks, "HAKMEM_TRACE=" + filepath.Join(dir, "trace")}, {ticks, "HAKMEM_HARDEN=1"},
	} {
		made := trace(with, settings...)
		if !made["mprotect"] || !made["madvise"] {
			t.Errorf("%v: the program made %s: hakmem has not worked", settings, made)
		}
		for c := range made {
			if !known[c] && !listed[c] {
				t.Errorf("%v: the program makes %s, which is not in the table of docs/environments.md and not Go's", settings, c)
			}
		}
	}
}
