package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

// TestFormerNames: a list written for an older version means the same; where a
// peer of that name was added, it is meant.
func TestFormerNames(t *testing.T) {
	known := []string{"hakmem", "gperftools", "glibc"}
	for _, c := range []struct {
		text  string
		known []string
		want  []string // nil: refused
	}{
		{"hakmem,tcmalloc,glibc", known, []string{"hakmem", "gperftools", "glibc"}},
		{"tcmalloc,gperftools", known, []string{"gperftools"}},
		{"tcmalloc,gperftools", append([]string{"tcmalloc"}, known...), []string{"tcmalloc", "gperftools"}},
		{"hakmem,tcmalloc", []string{"hakmem", "hakmem-heap"}, nil},
	} {
		list, err := readList("alloc", c.text, c.known)
		if !slices.Equal(list, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%s of %q: %q, %v; want %q", c.text, c.known, list, err, c.want)
		}
	}
	f, err := readField(compareVerb())
	if err != nil || !slices.Contains(f.names(), "gperftools") || slices.Contains(f.names(), "tcmalloc") {
		t.Errorf("%v: %q take part, want gperftools under its own name", err, f.names())
	}
}

// ownLibrary is a malloc to preload, with a version for the driver to find.
const ownLibrary = `#include <stddef.h>
void *__libc_malloc(size_t);
void *malloc(size_t n) { return __libc_malloc(n); }
const char *tc_version(int *a, int *b, const char **c) { (void)a, (void)b, (void)c; return "9"; }
`

// buildLibrary builds ownLibrary. It skips the test where there is no C side, and where the C
// library is another than glibc.
func buildLibrary(t *testing.T) (library string) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil || runtime.GOOS != "linux" {
		t.Skip("skipped: no Linux with gcc here: no native peers")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "own.c")
	library = filepath.Join(dir, "libown.so.3")
	if err := os.WriteFile(source, []byte(ownLibrary), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-fno-builtin", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("env", "LD_PRELOAD="+library, "true").CombinedOutput(); err != nil || len(out) > 0 {
		t.Skipf("skipped: another C library, without __libc_malloc: %v, %s", err, out)
	}
	return library
}

// TestPeer adds libraries that the program knows nothing of, one of them under
// the former name of another.
func TestPeer(t *testing.T) {
	library := buildLibrary(t)
	status, out, errs := hakmemCommand(append([]string{"compare", "tiny_hot", "--json", "--later", "0s",
		"--alloc", "own3,tcmalloc", "--peer", "own3=" + library, "--peer", "tcmalloc=" + library}, tiny...)...)
	var r result.Report
	if err := json.Unmarshal([]byte(out), &r); status != 0 || err != nil {
		t.Fatalf("status %d, %v: %s%s", status, err, out, errs)
	}
	if len(r.Results) != 2 || r.Results[0].Allocator != "own3" || r.Results[1].Allocator != "tcmalloc" || r.Results[1].Version != "9" {
		t.Errorf("results %+v, absent %v", r.Results, r.Absent)
	}
}

func TestCleanEnv(t *testing.T) {
	env := []string{"PATH=/bin", "HAKMEM_MODE=fast", "MALLOC_ARENA_MAX=1", "MIMALLOC_VERBOSE=1", "GOGC=off", "HOME=/"}
	kept, dropped := cleanEnv(env)
	if !slices.Equal(kept, []string{"PATH=/bin", "HOME=/"}) || !slices.Equal(dropped, []string{"HAKMEM_MODE", "MALLOC_ARENA_MAX", "MIMALLOC_VERBOSE", "GOGC"}) {
		t.Errorf("left %q, dropped %q", kept, dropped)
	}
	if len(env) != 6 || env[1] != "HAKMEM_MODE=fast" {
		t.Errorf("the argument was changed: %q", env)
	}
}
