package modules

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pack writes the tree's modules into dir as a module proxy has them
// (https://go.dev/ref/mod#goproxy-protocol).
func (tr *tree) pack(dir string) error {
	for _, m := range tr.modules {
		// Paths of modules have no capital letters here, which would have to be escaped.
		place := filepath.Join(dir, filepath.FromSlash(m.path), "@v")
		mod, err := os.ReadFile(filepath.Join(tr.root, m.dir, "go.mod"))
		if err := errors.Join(err, os.MkdirAll(place, 0o777)); err != nil {
			return err
		}
		info := fmt.Sprintf(`{"Version":%q,"Time":%q}`, tr.version, time.Now().UTC().Format(time.RFC3339))
		for name, text := range map[string]string{"list": tr.version + "\n", tr.version + ".info": info, tr.version + ".mod": string(mod)} {
			if err := os.WriteFile(filepath.Join(place, name), []byte(text), 0o666); err != nil {
				return err
			}
		}
		if err := tr.zip(m, filepath.Join(place, tr.version+".zip")); err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
	}
	return nil
}

// zip writes the module's zip file, in which each name has the module and its version before it.
func (tr *tree) zip(m *module, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := zip.NewWriter(f)
	add := func(name, from string) error {
		out, err := w.Create(m.path + "@" + tr.version + "/" + name)
		if err != nil {
			return err
		}
		in, err := os.Open(from)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(out, in)
		return err
	}
	for _, name := range m.files {
		if err := add(name, filepath.Join(tr.root, m.dir, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	if !slices.Contains(m.files, "LICENSE") { // then it gets that of the repository
		if err := add("LICENSE", filepath.Join(tr.root, "LICENSE")); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), f.Close())
}

// unpack writes the module's files into dir, outside of the tree.
func (tr *tree) unpack(m *module, dir string) error {
	for _, name := range m.files {
		text, err := os.ReadFile(filepath.Join(tr.root, m.dir, filepath.FromSlash(name)))
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o777)); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// A stranger has Go and the proxies, and no source tree. Its methods run commands there.
type stranger struct {
	home string // where all that it writes is
	env  []string
}

// newStranger gives a stranger the proxy in a directory before those in use here.
func newStranger(t *testing.T, proxy string) *stranger {
	t.Helper()
	s := &stranger{home: t.TempDir()}
	var here struct{ GOMODCACHE, GOPROXY, GOCACHE string }
	readJSON(t, &here, "env", "-json", "GOMODCACHE", "GOPROXY", "GOCACHE")
	// Other modules have been downloaded to build this test, and a module cache has them as a
	// proxy would.
	proxies := fileURL(proxy) + "," + fileURL(filepath.Join(here.GOMODCACHE, "cache", "download")) + "," + here.GOPROXY
	s.env = append(os.Environ(),
		"GOWORK=off",
		"GOPROXY="+proxies,
		"GONOPROXY=none", // all of it comes from there, whatever is private here
		"GOSUMDB=off",    // it cannot know our versions; the others' sums were compared on their way into the cache
		"GOMODCACHE="+filepath.Join(s.home, "modules"),
		"GOBIN="+filepath.Join(s.home, "bin"),
		// modcacherw so that the directory can be removed. trimpath, or every package would be
		// compiled again in each run, because it lies in another directory than the time before.
		"GOFLAGS=-mod=mod -modcacherw -trimpath",
		"XDG_CACHE_HOME="+filepath.Join(s.home, "cache"), // of os.UserCacheDir on Linux
		"GOCACHE="+here.GOCACHE,                          // or it would be under XDG_CACHE_HOME
	)
	return s
}

func fileURL(dir string) string {
	return "file:///" + strings.TrimPrefix(filepath.ToSlash(dir), "/")
}

// dir makes a directory below the stranger's home.
func (s *stranger) dir(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(s.home, name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a program in a directory and returns what it prints. The error has that as well.
func (s *stranger) run(dir, program string, args ...string) (string, error) {
	c := exec.Command(program, args...)
	c.Dir, c.Env = dir, s.env
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out), err
}
