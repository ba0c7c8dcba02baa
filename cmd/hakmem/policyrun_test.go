package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPolicyRuns: a program runs with HAKMEM_POLICY_EXPORT or HAKMEM_POLICY. Its exit status is passed on, and
// whether it wrote a file is said.
func TestPolicyRuns(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("skipped: no sh: ", err)
	}
	text, err := os.ReadFile(writePolicy(t, time.Minute, 4))
	if err != nil {
		t.Fatal(err)
	}
	// The shell stands for a program: with HAKMEM_POLICY_EXPORT it does what hakmem does ten seconds after
	// the start.
	const (
		export = `cd / && cp "$FROM" "$HAKMEM_POLICY_EXPORT.1" && mv "$HAKMEM_POLICY_EXPORT.1" "$HAKMEM_POLICY_EXPORT"`
		read   = `cd / && cat "$HAKMEM_POLICY"`
	)
	for _, test := range []struct {
		name   string
		line   []string // of policy
		shell  string   // what the program does. "": it must not run
		status int
		want   string // a part of the message
		left   string // the file that holds what the program wrote
	}{
		{"a new file", []string{"export", "-o", "new", "--", "sh", "-c"}, export, 0, "what sh learnt is in ", "new"},
		{"without --", []string{"export", "-o", "new", "sh", "-c"}, export, 0, "what sh learnt is in ", "new"},
		{"a policy file", []string{"export", "-o", "old", "--", "sh", "-c"}, export, 0, "what sh learnt is in ", "old"},
		{"an empty file", []string{"export", "-o", "empty", "--", "sh", "-c"}, export, 0, "what sh learnt is in ", "empty"},
		{"a link", []string{"export", "-o", "link", "--", "sh", "-c"}, export, 0, "what sh learnt is in ", "old"},
		{"a program that fails later", []string{"export", "-o", "new", "--", "sh", "-c"}, export + "; exit 7", 7, "sh: exit status 7", "new"},
		{"a program without hakmem", []string{"export", "-o", "new", "--", "sh", "-c"}, ":", exitFailed, "did not write", ""},
		{"a program that leaves the file", []string{"export", "-o", "old", "--", "sh", "-c"}, ":", exitFailed, "did not write", ""},
		{"a program that fails soon", []string{"export", "-o", "new", "--", "sh", "-c"}, "exit 7", 7, "did not write", ""},
		{"another file", []string{"export", "-o", "text", "--", "sh", "-c"}, "", exitUsage, `"text" holds something else than a policy file`, ""},
		{"no such directory", []string{"export", "-o", "no/such", "--", "sh", "-c"}, "", exitFailed, `"no/such"`, ""},
		{"a policy", []string{"import", "old", "--", "sh", "-c"}, read, 0, "", ""},
		{"a policy without --", []string{"import", "old", "sh", "-c"}, read, 0, "", ""},
		{"a program that fails", []string{"import", "old", "--", "sh", "-c"}, "exit 9", 9, "sh: exit status 9", ""},
		{"no such policy", []string{"import", "missing", "--", "sh", "-c"}, "", exitFailed, "missing", ""},
		{"no policy", []string{"import", "text", "--", "sh", "-c"}, "", exitFailed, "text: this is no policy file", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			old := strings.Replace(string(text), "{\n", "{\n \"format\": \"hakmem policy\",\n", 1) // reads the same
			held := map[string]string{"old": old, "empty": "", "text": "something else", "from": string(text)}
			for name, text := range held {
				if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			symlink(t, "old", "link")
			from, err := filepath.Abs("from")
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("FROM", from)
			shell := test.shell
			if shell == "" {
				shell = "echo the program ran"
			}
			status, out, errs := hakmemCommand(append(append([]string{"policy"}, test.line...), shell)...)
			if status != test.status || !strings.Contains(errs, test.want) {
				t.Errorf("status %d, want %d; %q, want %q", status, test.status, errs, test.want)
			}
			if want := map[bool]string{true: old}[shell == read]; out != want {
				t.Errorf("prints %q, want %q", out, want)
			}
			if test.left != "" {
				held[test.left] = string(text)
			}
			for name, want := range held {
				if got, err := os.ReadFile(name); err != nil || string(got) != want {
					t.Errorf("%s holds %.60q, %v; want %.60q", name, got, err, want)
				}
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
