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

// Some tests need a process of their own: the region is reserved once, gates are read
// once, and what was survived stays in Err. Such a test is a case, registered by Child
// and run by InChild, which starts the test's program again. The package's TestMain
// calls Main, which runs the case there.

// childVar names, in a child's environment, the case that it is to run: "name:argument".
const childVar = "TEST_CHILD_OF_HAKMEM"

// childLimit ends a case that hangs. It leaves room for a storm of a million failures under
// the race detector, on a machine that does other things as well.
const childLimit = 3 * time.Minute

// NotReached is what a case prints that was to refuse a call which was not made: the
// case has shown nothing.
const NotReached = "there was no such call"

var cases = map[string]func(arg string) error{}

// Child registers a case under a name of its own in the test's program. A case that
// returns an error, or does not return, has failed. It is for package variables:
//
//	var _ = testkit.Child("storm", storm)
func Child(name string, run func(arg string) error) struct{} {
	if cases[name] != nil {
		panic(fmt.Sprintf("testkit: Child: there are two cases %q: give one of them another name", name))
	}
	cases[name] = run
	return struct{}{}
}

// Main is the body of a TestMain: it runs the case that InChild asks for, or else the
// tests. It does not return.
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

// ChildEnv is what, in the environment of the test's program, makes it run a case. It
// is for tests that start the program in a way of their own.
func ChildEnv(name, arg string) string { return childVar + "=" + name + ":" + arg }

// InChild runs a case in a process of its own, with the given gates and no others; the
// test fails if the case does. It reports false if the case printed NotReached.
func InChild(t testing.TB, name, arg string, gates ...string) (reached bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), childLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HAKMEM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, gates...), ChildEnv(name, arg))
	if f := flag.Lookup("test.gocoverdir"); f != nil && f.Value.String() != "" { // what it covers counts too
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+f.Value.String())
	}
	if Race { // a process that ends sleeps a second by default
		cmd.Env = append(cmd.Env, strings.TrimSpace("GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		if len(out) > 4000 {
			out = append(out[:4000:4000], "\n..."...)
		}
		t.Errorf("%s %s %v: %v\n%s", name, arg, gates, err, out)
	}
	return !bytes.Contains(out, []byte(NotReached))
}
