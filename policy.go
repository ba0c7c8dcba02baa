package hakmem

import (
	"fmt"
	"io"
	"os"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
)

// ExportPolicy writes what hakmem has learnt so far in this process to w, as a policy file: for how long
// free memory waits until it is used again, by the part of the address space that it lies in; and for each
// site, by its name, whether its blocks live for long, or the rule that is set (see [SetSiteRule]). A
// later process of the same program that reads the file does not have to learn it anew: name the file in
// HAKMEM_POLICY, or call [ImportPolicy].
//
// The file is JSON of some 40 KiB, and 100 bytes for each site. It contains no addresses and no contents
// of memory. `hakmem policy`
// shows, compares and merges such files.
//
// ExportPolicy returns the error of w. Any goroutine may call it.
func ExportPolicy(w io.Writer) error { return engine.Learnt().Write(w) }

// ImportPolicy reads a policy file, which [ExportPolicy] has written, and puts it in place of what
// hakmem has learnt in this process. hakmem goes on learning from there.
//
// What the file says of a site holds for the site that has the name, or is registered with it later, until
// this process has seen enough of the site's blocks. A rule that was set in the process that wrote the
// file is set here too, unless this one has set another.
//
// If the file is damaged, written by a newer hakmem, or something else, ImportPolicy returns an error
// that says so, and nothing changes. HAKMEM_POLICY=path does the same when the program starts; its
// error is reported by [Err]. Any goroutine may call it.
func ImportPolicy(r io.Reader) error {
	s, err := learn.ReadSnapshot(r)
	if err == nil {
		err = engine.Learn(s)
	}
	if err != nil {
		return fmt.Errorf("hakmem: policy: %w", err)
	}
	return nil
}

func init() {
	if path := policy.AtStart().Policy; path != "" {
		if err := importPolicyFile(path); err != nil {
			engine.Survive(fmt.Errorf("%w; HAKMEM_POLICY=%q has no effect, and hakmem begins to learn anew", err, path))
		}
	}
}

func importPolicyFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("hakmem: policy: %w", err)
	}
	defer f.Close()
	return ImportPolicy(f)
}
