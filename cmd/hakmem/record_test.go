package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRecordBroken checks that a trace with a broken end is kept, because the program's run may
// have been long.
func TestRecordBroken(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("skipped: no sh: ", err)
	}
	file := filepath.Join(t.TempDir(), "t.trace")
	const text = "hakmem trace 1\na 0 1 16\na 0 2"
	status, _, errs := hakmemCommand("record", "-o", file, "--", "sh", "-c", "printf '"+strings.ReplaceAll(text, "\n", "\\n")+"' > \"$HAKMEM_TRACE\"; exit 3")
	left, err := filepath.Glob(file + ".*.tmp")
	if status != exitFailed || err != nil || len(left) != 1 || !strings.Contains(errs, "sh: exit status 3") || !strings.Contains(errs, "left in "+left[0]) {
		t.Fatalf("status %d, %q: %s", status, left, errs)
	}
	if got, err := os.ReadFile(left[0]); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the broken trace has the place of a whole one")
	}
}

// TestRecordKeeps checks that an existing file is replaced by a trace and by nothing else.
func TestRecordKeeps(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asProgram, "1")
	const old = "hakmem trace 1\nm 0 1 16\n"
	for _, c := range []struct {
		name, line string // P is a link to this program, and is also in the path
		status     int
		want       string // a part of the message
		recorded   string // name of the file that holds a new trace
	}{
		{"new", "-o new -- P stats --json", 0, "calls recorded", "new"},
		{"a trace", "-o trace -- P stats --json", 0, "calls recorded", "trace"},
		{"an empty file", "-o empty -- P stats --json", 0, "calls recorded", "empty"},
		{"a link", "-o link -- P stats --json", 0, "calls recorded", "trace"},
		{"a program without hakmem", "-o trace -- P version", exitFailed, "no call of hakmem", ""},
		{"no such program", "-o trace -- ./missing", exitUsage, "name a program", ""},
		{"what cannot start", "-o trace -- ./text", exitFailed, "text", ""},
		{"the program", "-o P -- ./P stats", exitUsage, `"P" is the program`, ""},
		{"an argument", "-o trace -- P replay trace", exitUsage, `"trace" is the program, or an argument of it`, ""},
		{"another file", "-o text -- P stats", exitUsage, `"text" holds something else`, ""},
		{"a directory", "-o . -- P stats", exitUsage, `"." is not a regular file`, ""},
		{"no name", "-o= -- P stats", exitUsage, `"": name a file`, ""},
		{"no such directory", "-o no/such -- P stats", exitFailed, `"no/such"`, ""},
		{"a link to nothing", "-o dangling -- P stats", exitFailed, "symbolic link to no file", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			held := map[string]string{"trace": old, "empty": "", "text": "#!/nonexistent\n"}
			for name, text := range held {
				if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(os.Chmod("trace", 0o640), os.Chmod("text", 0o755)); err != nil {
				t.Fatal(err)
			}
			symlink(t, program, "P")
			symlink(t, "trace", "link")
			symlink(t, "nothing", "dangling")
			t.Setenv("PATH", ".")
			t.Setenv("GODEBUG", "execerrdot=0") // so that P is found there
			status, out, errs := hakmemCommand(append([]string{"record"}, strings.Fields(c.line)...)...)
			if status != c.status || !strings.Contains(errs, c.want) {
				t.Errorf("status %d, want %d; %q, want %q; prints %q", status, c.status, errs, c.want, out)
			}
			if status != 0 && status != exitFailed && out != "" {
				t.Errorf("the program ran and printed %q", out)
			}
			held[c.recorded] = "" // its contents are not compared
			for name, text := range held {
				got, err := os.ReadFile(name)
				switch {
				case name == "":
				case name != c.recorded && (err != nil || string(got) != text):
					t.Errorf("%s holds %q, %v; want %q", name, got, err, text)
				case name == c.recorded && (err != nil || !strings.HasPrefix(string(got), "hakmem trace 1\n") || string(got) == old):
					t.Errorf("%s holds %.40q, %v; want a new trace", name, got, err)
				}
			}
			if info, err := os.Stat("trace"); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("trace: %v, %v", info.Mode(), err)
			}
			if info, err := os.Lstat("link"); err != nil || info.Mode().IsRegular() {
				t.Errorf("link is no link any more: %v", err)
			}
			if left, err := filepath.Glob("*.tmp"); err != nil || left != nil {
				t.Errorf("leaves %q, %v", left, err)
			}
		})
	}
}
