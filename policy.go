package hakmem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/realtime"
)

// ExportPolicy writes what hakmem has learnt so far in this process to w, as a policy file: for how long
// free memory waits until it is used again, by the part of the address space that it lies in; for each
// site, by its name, whether its blocks live for long, how the memory of its large blocks comes best, if that
// was learnt, and the rule that is set (see [SetSiteRule]); which block sizes were added (see [Options].Dyn);
// and, as far as they are learnt, how fresh memory comes ([Options].Touch), W_MAX ([Options].WMax), the sizes
// of batches ([Options].Batch), and how the strategies are rated that multiply hold times and the budget of
// caches ([Options].Elo). A later process of the same program that reads the file does not have to learn it
// anew: name the file in HAKMEM_POLICY, or call [ImportPolicy]. With HAKMEM_POLICY_EXPORT=path hakmem writes
// the file by itself, ten seconds after the program started and every ten seconds from then on. Both may name
// the same file.
//
// The file is JSON of some 40 KiB, and 100 bytes for each site. It contains no addresses and no contents
// of memory. `hakmem policy` shows, compares and merges such files, and runs programs that write or read one.
//
// ExportPolicy returns the error of w. Any goroutine may call it.
func ExportPolicy(w io.Writer) error {
	var state *learn.State
	if s, err := learnerState(); err == nil {
		state = &s
	}
	if err := engine.Learnt().Write(w, state); err != nil {
		return fmt.Errorf("hakmem: policy: %w", err)
	}
	return nil
}

// Explain writes to w, in sentences, what memory hakmem holds in this process and why: how much is in use,
// in caches and in free pages, for how long free memory is kept and what that follows from, and what was
// decided lately, with what came of it. `hakmem learn explain` says the same of a policy file.
//
// Explain returns the error of w, or one that says that a system call hangs that returns memory. Any
// goroutine may call it. It takes as long as [ReadStats].
func Explain(w io.Writer) error {
	state, err := learnerState()
	if err != nil {
		return err
	}
	return state.Explain(w)
}

// WriteBoard writes to w, as a table, how the twelve strategies of the learner stand: hold times and budgets by factors,
// with Elo ratings from matches in which all of them are judged by the same windows of 2 s. A second table says what the
// thresholds of the original hakmem would have cost. docs/learning.md explains both; `hakmem learn board` writes
// them for a policy file. Where nothing is learnt (HAKMEM_EVO=off, hakmem_nolearn) nobody has played.
//
// WriteBoard returns the error of w, or one that says that a system call hangs that returns memory. Any
// goroutine may call it. It reads no statistics.
func WriteBoard(w io.Writer) error {
	state, err := learnerStands()
	if err != nil {
		return err
	}
	return state.WriteBoard(w)
}

// learnerStands returns how the learner stands, without the memory of the process.
func learnerStands() (learn.State, error) {
	state, ok := engine.LearnerState()
	if !ok {
		return state, errors.New("hakmem: what the learner knows cannot be read: a system call that returns memory has not come back; see Err")
	}
	return state, nil
}

// learnerState returns how the learner stands, with the memory of the process.
func learnerState() (learn.State, error) {
	state, err := learnerStands()
	if err != nil {
		return state, err
	}
	var s Stats
	ReadStats(&s)
	m := &state.Memory
	m.Resident, m.Live, m.Free = s.Resident, s.Live, s.Scavenger.Dirty
	m.Huge = s.Large.HugeCache.Bytes + s.Large.SiteCache.Bytes
	m.Returned, m.Again = s.Scavenger.Returned+s.Scavenger.Holes, s.Scavenger.FaultedAgain
	return state, nil
}

// ImportPolicy reads a policy file, which [ExportPolicy] has written, and puts it in place of what
// hakmem has learnt in this process. hakmem goes on learning from there.
//
// What the file says of a site holds for the site that has the name, or is registered with it later, until
// this process has seen enough of the site's blocks. Factors of W_MAX, of batches and of the budget of caches
// are in force at once where the settings let hakmem choose them, and stay so if HAKMEM_EVO is frozen. Of
// these, what the file does not say stays as it is. A rule that was set in the process that wrote the
// file is set here too, unless this one has set another. Its block sizes are added to those that were added
// here, two in all, unless HAKMEM_DYN is off or names the sizes.
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

// exportEvery is the time between two exports to the file of HAKMEM_POLICY_EXPORT. One takes a millisecond
// or two for each GiB, as ReadStats does.
const exportEvery = 10 * time.Second

// exportTimer is set while that file is to be written.
var exportTimer = realtime.New()

// exportRegularly exports to a file from now on, each time that exportEvery has passed.
func exportRegularly(path string) {
	exportTimer.Set(exportEvery, func() {
		exportPolicyFile(path)
		exportRegularly(path)
	})
}

// exportFailed says that the last export failed. The goroutine of exportTimer owns it.
var exportFailed bool

// exportPolicyFile writes what was learnt to a file. Of several failures in a row Err reports the first: a
// disk that is full, or a directory that is not there yet, may be mended while the program runs.
func exportPolicyFile(path string) (ok bool) {
	err := writePolicyFile(path)
	if err != nil && !exportFailed {
		engine.Survive(fmt.Errorf("hakmem: policy: HAKMEM_POLICY_EXPORT=%q: %w; it is tried again every %v", path, err, exportEvery))
	}
	exportFailed = err != nil
	return !exportFailed
}

// writePolicyFile writes what was learnt to a file, which has either the old content or the new one at any
// time. A file that is there keeps its permissions.
func writePolicyFile(path string) error {
	mode := fs.FileMode(0o644)
	if is, err := os.Lstat(path); err == nil {
		if mode = is.Mode(); !mode.IsRegular() {
			return errors.New("it is no regular file, and would be replaced by one: name another path")
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = errors.Join(ExportPolicy(f), f.Chmod(mode.Perm()), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func init() {
	start := policy.AtStart()
	export := start.PolicyExport
	if start.Policy != "" {
		err := importPolicyFile(start.Policy)
		first := start.Policy == export && errors.Is(err, fs.ErrNotExist) // the first run of several
		if err != nil && !first {
			if start.Policy == export {
				export = "" // what could not be read is not replaced
			}
			engine.Survive(fmt.Errorf("%w; HAKMEM_POLICY=%q has no effect, and hakmem begins to learn anew", err, start.Policy))
		}
	}
	if export != "" {
		exportRegularly(export)
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
