package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A draft is a new file beside the one whose place it takes once it is
// complete: that one is there either in full or not at all.
type draft struct {
	*os.File
	name string      // whose place it takes
	mode fs.FileMode // of the file that has that place; 0 if there is none
}

// newDraft creates a draft of the file that name, which may be a symbolic link,
// leads to.
func newDraft(name string) (*draft, error) {
	d := &draft{name: name}
	perm := fs.FileMode(0o666) // less the umask, as os.Create
	switch target, err := filepath.EvalSymlinks(name); {
	case err == nil:
		info, err := os.Stat(target)
		if err != nil {
			return nil, err
		}
		d.name, d.mode = target, info.Mode().Perm()
		perm = d.mode | 0o600 // it is still to be written
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		if _, err := os.Lstat(name); err == nil {
			return nil, fmt.Errorf("%s is a symbolic link to no file; create that file, or name another", name)
		}
	}
	// Not os.CreateTemp, which would leave the file to its owner alone.
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

// writeFile writes a file that is there either in full or not at all.
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
