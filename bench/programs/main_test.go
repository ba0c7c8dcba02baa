package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/trace"
)

var all = flag.Bool("all", false, "record every program as the command does: that compiles SQLite once more, for some minutes")

// recorded returns the text of a recording in a directory.
func recorded(t *testing.T, dir, name string) []byte {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join(dir, name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const shipped = "../recorded"

// compare reports the first line in which a program's recording is not the one that lies in bench/recorded. The
// second half of one that varies may be other by one line in a hundred.
func compare(t *testing.T, p program, got []byte) {
	t.Helper()
	const remedy = "if that is meant to be, run `go run ./bench/programs`"
	a, b := strings.Split(string(got), "\n"), strings.Split(string(recorded(t, shipped, p.name)), "\n")
	differ := len(a) - len(b)
	same := min(len(a), len(b))
	if p.varies {
		same /= 2
		differ /= max(len(b)/100, 1)
	}
	for i := range same {
		if a[i] != b[i] {
			t.Fatalf("line %d of %s is now %q, and was %q: %s", i+1, p.name, a[i], b[i], remedy)
		}
	}
	if differ != 0 {
		t.Fatalf("%s has now %d lines, and had %d: %s", p.name, len(a), len(b), remedy)
	}
}

// TestPrograms: what the programs do now is what was recorded. The build of this test has modernc.org/memory itself,
// so SQLite makes no call of hakmem in it; that its answers are right is checked all the same.
func TestPrograms(t *testing.T) {
	if slices.ContainsFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HAKMEM_") }) {
		t.Skip("skipped: settings of hakmem are in the environment, and the recordings are made without any")
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			events, err := record(p)
			if p.name == "sqlite" && errors.Is(err, errNoCall) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := writeEvents(&text, events); err != nil {
				t.Fatal(err)
			}
			compare(t, p, text.Bytes())
		})
	}
}

// TestCommand runs the command as a whole.
func TestCommand(t *testing.T) {
	if !*all {
		t.Skip("skipped without -all: it compiles SQLite once more, for some minutes")
	}
	dir := t.TempDir()
	var out, errs strings.Builder
	if status := start([]string{"-o", dir}, &out, &errs); status != 0 || errs.Len() > 0 {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) { compare(t, p, recorded(t, dir, p.name)) })
	}
}

// TestNumbering follows numbers by hand.
func TestNumbering(t *testing.T) {
	text := func(events ...string) *trace.Reader {
		r, err := trace.NewReader("events", strings.NewReader("hakmem trace 1\n"+strings.Join(events, "\n")+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct {
		name        string
		given, want []string
		complaint   string
	}{
		{"from 1", []string{"a 0 70 8", "z 0 80 9", "g 0 90 16 64"}, []string{"a 0 1 8", "z 0 2 9", "g 0 3 16 64"}, ""},
		{"the last one free", []string{"a 0 7 8", "a 0 8 8", "f 0 7", "f 0 8", "a 0 7 1", "a 0 9 2", "a 0 a 3"},
			[]string{"a 0 1 8", "a 0 2 8", "f 0 1", "f 0 2", "a 0 2 1", "a 0 1 2", "a 0 3 3"}, ""},
		{"a realloc keeps its number", []string{"a 0 7 8", "r 0 9 20 7", "r 0 9 30 9", "f 0 9"},
			[]string{"a 0 1 8", "r 0 1 20 1", "r 0 1 30 1", "f 0 1"}, ""},
		{"unknown", []string{"f 0 7"}, nil, "block 7"},
		{"unknown to a realloc", []string{"r 0 8 16 7"}, nil, "block 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n numbering
			var got []trace.Event
			for in := text(c.given...); ; {
				e, err := in.Next()
				if err == io.EOF {
					break
				}
				if err == nil {
					e, err = n.rename(e)
				}
				if err != nil {
					if c.complaint == "" || !strings.Contains(err.Error(), c.complaint) {
						t.Errorf("error %v, want %q", err, c.complaint)
					}
					return
				}
				got = append(got, e)
			}
			if c.complaint != "" {
				t.Fatalf("no error, want %q", c.complaint)
			}
			var b bytes.Buffer
			if err := writeEvents(&b, got); err != nil {
				t.Fatal(err)
			}
			if want := "hakmem trace 1\n" + strings.Join(c.want, "\n") + "\n"; b.String() != want {
				t.Errorf("%s\nwant\n%s", b.String(), want)
			}
		})
	}
}

// TestTurns: what is called between turns is not recorded, and a failed turn ends its trace.
func TestTurns(t *testing.T) {
	failed := errors.New("failed")
	var r recorder
	if err := r.turn(0, func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("%v, want %v", err, failed)
	}
	if err := r.turn(3, func() error { return nil }); err != nil || len(r.events) != 0 {
		t.Errorf("%v, %v", err, r.events)
	}
}

func TestBadInput(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"nothing"}, `"nothing": use some of sqlite, arrow`},
		{[]string{"-child"}, "takes one program"},
		{[]string{"-child", "arrow", "cache"}, "got 2"},
		{[]string{"-nothing"}, "not defined"},
	} {
		var out, errs strings.Builder
		if status := start(c.args, &out, &errs); status != 2 || !strings.Contains(errs.String(), c.want) || out.Len() > 0 {
			t.Errorf("%q: status %d, %q, want 2 and %q", c.args, status, errs.String(), c.want)
		}
	}
}
