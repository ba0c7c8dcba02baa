package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"
)

// A draft is a new file next to an old one, which it replaces once it is complete. So readers find
// a complete file or none.
type draft struct {
	*os.File
	name string      // the file that it replaces
	mode fs.FileMode // mode of that file; 0 if there is none
}

// newDraft creates a draft of the file called name. If name is a symbolic link, that is the file to
// which it leads.
func newDraft(name string) (*draft, error) {
	d := &draft{name: name}
	perm := fs.FileMode(0o666) // minus the umask, as in os.Create
	switch target, err := filepath.EvalSymlinks(name); {
	case err == nil:
		info, err := os.Stat(target)
		if err != nil {
			return nil, err
		}
		d.name, d.mode = target, info.Mode().Perm()
		perm = d.mode | 0o600 // d.mode, but writable until the draft is complete
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		if _, err := os.Lstat(name); err == nil {
			return nil, fmt.Errorf("%s is a symbolic link to no file; create that file, or name another", name)
		}
	}
	// os.CreateTemp would make a file that only its owner may read.
	f, err := os.OpenFile(fmt.Sprintf("%s.%d.tmp", d.name, os.Getpid()), os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	d.File = f
	return d, err
}

// keep puts the draft in its place.
func (d *draft) keep() error {
	err := d.Close()
	if err == nil && d.mode != 0 {
		err = os.Chmod(d.Name(), d.mode)
	}
	if err == nil {
		err = os.Rename(d.Name(), d.name)
	}
	return err
}

// drop removes the draft, unless it has been kept.
func (d *draft) drop() {
	d.Close()
	os.Remove(d.Name())
}

// writeOutput writes to the file called name as writeFile does; - is standard output.
func writeOutput(c *cli.Command, name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(c.Root().Writer)
	}
	return writeFile(name, write)
}

// writeFile writes a file in such a way that readers find a complete file or none.
func writeFile(name string, write func(io.Writer) error) error {
	d, err := newDraft(name)
	if err != nil {
		return err
	}
	defer d.drop()
	if err := write(d); err != nil {
		return err
	}
	return d.keep()
}
