package testkit

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Some tests need a process of their own, because the region is reserved once, settings are read
// once, and the errors in Err stay there. Such a test is a case: Child registers it, and InChild
// runs it by starting the test's program again. The package's TestMain calls Main, which runs the
// case in that process.

// childVar names, in a child's environment, the case that it is to run: "name:argument".
const childVar = "TEST_CHILD_OF_HAKMEM"

// childLimit ends a case that hangs. It leaves enough time for a storm of a million failures under
// the race detector on a busy machine.
const childLimit = 3 * time.Minute

// NotReached is the text that a case prints if it was to refuse a call and that call was never
// made. Such a case has shown nothing.
const NotReached = "there was no such call"

var cases = map[string]func(arg string) error{}

// Child registers a case under a name that is unique in the test's program. A case fails if it
// returns an error or does not return. Child is for package variables:
//
//	var _ = testkit.Child("storm", storm)
func Child(name string, run func(arg string) error) struct{} {
	if cases[name] != nil {
		panic(fmt.Sprintf("testkit: Child: there are two cases %q: give one of them another name", name))
	}
	cases[name] = run
	return struct{}{}
}

// Main is the body of a TestMain. It runs the case that InChild asks for, or otherwise the tests,
// and does not return.
func Main(m *testing.M) {
	todo := os.Getenv(childVar)
	if todo == "" {
		os.Exit(m.Run())
	}
	name, arg, _ := strings.Cut(todo, ":")
	run := cases[name]
	if run == nil {
		run = func(string) error { return fmt.Errorf("there is no case %q: register it with testkit.Child", name) }
	}
	if err := run(arg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// ChildEnv returns the environment variable that makes the test's program run a case. It is for
// tests that start the program themselves.
func ChildEnv(name, arg string) string { return childVar + "=" + name + ":" + arg }

// InChild runs a case in a process of its own, with the given settings (HAKMEM_* variables) and no
// others. The test fails if the case does. InChild returns false if the case printed NotReached.
func InChild(t testing.TB, name, arg string, settings ...string) (reached bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), childLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HAKMEM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, settings...), ChildEnv(name, arg))
	if f := flag.Lookup("test.gocoverdir"); f != nil && f.Value.String() != "" { // its coverage counts, too
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+f.Value.String())
	}
	if Race { // by default a process sleeps for a second when it ends
		cmd.Env = append(cmd.Env, strings.TrimSpace("GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		if len(out) > 4000 {
			out = append(out[:4000:4000], "\n..."...)
		}
		t.Errorf("%s %s %v: %v\n%s", name, arg, settings, err, out)
	}
	return !bytes.Contains(out, []byte(NotReached))
}
