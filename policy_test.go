package hakmem_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

var _ = testkit.Child("policy exported", policyExported)

// rareDemand uses 64 MiB for a moment each 20 s, n times.
func rareDemand(c *testkit.Clock, n int) {
	for range n {
		var blocks []unsafe.Pointer
		for range 16 {
			blocks = append(blocks, hakmem.Malloc(4<<20))
		}
		for _, p := range blocks {
			hakmem.Free(p)
		}
		c.Advance(20 * time.Second)
	}
}

// policyExported learns that memory is not wanted again soon, and writes that to the file arg.
func policyExported(arg string) error {
	c := &testkit.Clock{}
	c.Skip(time.Hour)
	engine.SetClock(c)
	hakmem.Free(hakmem.Malloc(16)) // ReadStats has nothing to say before
	before := workout.ReadStats().Scavenger.HoldTime
	rareDemand(c, 20)
	after := workout.ReadStats().Scavenger.HoldTime
	if after >= before/2 {
		return fmt.Errorf("memory is kept for %v after it was never wanted soon, before for %v", after, before)
	}
	f, err := os.Create(arg)
	if err != nil {
		return err
	}
	return errors.Join(hakmem.ExportPolicy(f), f.Close())
}

var _ = testkit.Child("policy imported", policyImported)

// policyImported knows from the beginning what policyExported has learnt, from HAKMEM_POLICY. With an
// argument it finds the file refused, for the reason that arg says.
func policyImported(arg string) error {
	hakmem.Free(hakmem.Malloc(16))
	hold := workout.ReadStats().Scavenger.HoldTime
	err := hakmem.Err()
	if arg != "" {
		if text := fmt.Sprint(err); !strings.Contains(text, arg) || !strings.Contains(text, os.Getenv("HAKMEM_POLICY")) || hold < time.Second {
			return fmt.Errorf("Err() = %w, want it to say %q; memory is kept for %v", err, arg, hold)
		}
		return nil
	}
	if err != nil || hold > time.Second {
		return fmt.Errorf("memory is kept for %v from the beginning: %w", hold, err)
	}
	return nil
}

// TestPolicy: what one process has learnt, another one knows. A file that cannot be used is reported,
// and changes nothing.
func TestPolicy(t *testing.T) {
	if !testkit.Learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	path := filepath.Join(testkit.TempDir(t), "policy")
	testkit.InChild(t, "policy exported", path)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.InChild(t, "policy imported", "", "HAKMEM_POLICY="+path)
	testkit.InChild(t, "policy imported", "no such file", "HAKMEM_POLICY="+path+" not there")
	for says, bad := range map[string][]byte{
		"no policy file":        []byte("something else"),
		"damaged":               text[:len(text)/2],
		"the format is":         []byte(`{"format": "another", "version": 1}`),
		"newer than 1":          bytes.Replace(text, []byte(`"version": 1`), []byte(`"version": 2`), 1),
		"no version 0":          bytes.Replace(text, []byte(`"version": 1`), []byte(`"version": 0`), 1),
		"other hold times":      bytes.Replace(text, []byte("0.45"), []byte("0.46"), 1),
		"no number":             bytes.Replace(text, []byte(`"Open": `), []byte(`"Open": -1, "Other": `), 1),
		"more than 16777216 by": append(bytes.Clone(text), make([]byte, 16<<20)...),
		"not finite and positi": bytes.Replace(text, []byte(`"Hold": `), []byte(`"Hold": -`), 1),
	} {
		if bytes.Equal(bad, text) {
			t.Fatalf("%s: the file was not changed:\n%s", says, text)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		testkit.InChild(t, "policy imported", says, "HAKMEM_POLICY="+path)
	}
}

// TestPolicyAtAnyTime: a policy may be exported and imported while the program runs.
func TestPolicyAtAnyTime(t *testing.T) {
	var first, second bytes.Buffer
	if err := hakmem.ExportPolicy(&first); err != nil {
		t.Fatal(err)
	}
	text := first.String()
	if err := hakmem.ImportPolicy(&first); err != nil {
		t.Fatal(err)
	}
	if err := hakmem.ExportPolicy(&second); err != nil || !strings.Contains(text, `"policy"`) {
		t.Fatal(err, text)
	}
	if err := hakmem.ImportPolicy(strings.NewReader("{}")); err == nil {
		t.Error("ImportPolicy of something else returns no error")
	}
	if err := hakmem.ExportPolicy(failing{}); !errors.Is(err, errFailing) {
		t.Errorf("ExportPolicy to a writer that fails = %v", err)
	}
}

// TestPolicyOfSites: the rule of a site is in the policy file, by name, and holds for a site that gets the
// name later.
func TestPolicyOfSites(t *testing.T) {
	s := hakmem.RegisterSite("TestPolicyOfSites")
	hakmem.SetSiteRule(s, hakmem.SiteRule{Lane: hakmem.LaneLong})
	var file bytes.Buffer
	if err := hakmem.ExportPolicy(&file); err != nil {
		t.Fatal(err)
	}
	hakmem.SetSiteRule(s, hakmem.SiteRule{})
	text := file.String()
	if !strings.Contains(text, `"TestPolicyOfSites"`) {
		t.Fatalf("the site is not in the file:\n%s", text)
	}
	if err := hakmem.ImportPolicy(strings.NewReader(strings.ReplaceAll(text, "TestPolicyOfSites", "TestPolicyOfSites: later"))); err != nil {
		t.Fatal(err)
	}
	later := hakmem.RegisterSite("TestPolicyOfSites: later")
	defer hakmem.SetSiteRule(later, hakmem.SiteRule{})
	if set, now := hakmem.ReadSiteRule(later); set.Lane != hakmem.LaneLong || now != hakmem.LaneLong {
		t.Errorf("the imported rule is %v, now %v", set.Lane, now)
	}
	if set, _ := hakmem.ReadSiteRule(s); set.Lane != hakmem.LaneAuto {
		t.Errorf("a rule that is not in the file is %v", set.Lane)
	}
	if err := hakmem.ImportPolicy(strings.NewReader(strings.Replace(text, `"Samples": 0`, `"Samples": -5`, 1))); err == nil || !strings.Contains(err.Error(), "-5 samples") {
		t.Errorf("a damaged rule: %v", err)
	}
}

var _ = testkit.Child("policy of holes", policyOfHoles)

// policyOfHoles finds what is known of holes again after an import, also after one of a file that says nothing
// of them and one that is damaged.
func policyOfHoles(string) error {
	engine.SetClock(testkit.Stopped{}) // so that nothing is learnt meanwhile
	exported := func() (s learn.Snapshot, err error) {
		var file bytes.Buffer
		if err := hakmem.ExportPolicy(&file); err != nil {
			return s, err
		}
		if s, err = learn.ReadSnapshot(&file); err == nil && s.Holes == nil {
			err = errors.New("the file says nothing of holes")
		}
		return s, err
	}
	imported := func(s learn.Snapshot) error {
		var file bytes.Buffer
		if err := s.Write(&file, nil); err != nil {
			return err
		}
		return hakmem.ImportPolicy(&file)
	}
	s, err := exported()
	if err != nil {
		return err
	}
	known := &s.Holes.Bands[3]
	known.Ended[2], known.EndedSeconds[2] = 7, 1.4
	if err := imported(s); err != nil {
		return err
	}
	again, err := exported()
	if err != nil || !reflect.DeepEqual(again.Holes.Bands, s.Holes.Bands) || reflect.DeepEqual(again.Bands, s.Holes.Bands) {
		return fmt.Errorf("of holes %+v was imported, and is now %+v: %w", s.Holes.Bands, again.Holes, err)
	}
	without := s
	without.Holes = nil
	if err := imported(without); err != nil {
		return err
	}
	damaged, holes := s, *s.Holes
	holes.Bands = append([]learn.Band(nil), holes.Bands...)
	holes.Bands[0].Open = -1
	damaged.Holes = &holes
	if err := imported(damaged); err == nil || !strings.Contains(err.Error(), "of holes") {
		return fmt.Errorf("damaged holes: %w", err)
	}
	if again, err = exported(); err != nil || !reflect.DeepEqual(again.Holes.Bands, s.Holes.Bands) {
		return fmt.Errorf("a file without holes, or a damaged one, changes what is known of them to %+v: %w", again.Holes, err)
	}
	return nil
}

// TestPolicyOfHoles: a policy file carries what is known of holes.
func TestPolicyOfHoles(t *testing.T) { testkit.InChild(t, "policy of holes", "") }

var _ = testkit.Child("policy of factors", policyOfFactors)

// policyOfFactors begins with the W_MAX of arg, which HAKMEM_POLICY has, and keeps it.
func policyOfFactors(arg string) error {
	c := &testkit.Clock{}
	c.Skip(time.Hour)
	engine.SetClock(c)
	h := hakmem.NewHeap()
	defer h.Close()
	served := func() string { // which W_MAX serves a request for 64 KiB with a block of 96
		h.Free(h.Malloc(96 << 10))
		p := h.Malloc(64 << 10)
		defer h.Free(p)
		if hakmem.UsableSize(p) >= 96<<10 {
			return "1.5"
		}
		return "1"
	}
	for i := range 3 {
		if got := served(); got != arg {
			return fmt.Errorf("after %d peaks W_MAX is %s, want %s: %w", i, got, arg, hakmem.Err())
		}
		rareDemand(c, 2)
	}
	var file bytes.Buffer
	if err := hakmem.ExportPolicy(&file); err != nil {
		return err
	}
	if s, err := learn.ReadSnapshot(&file); err != nil || (s.WMax != nil) != (arg != "1") || s.WMax != nil && fmt.Sprint(s.WMax.Factor()) != arg {
		return fmt.Errorf("the process exports %+v: %w", s.WMax, err)
	}
	return hakmem.Err()
}

// TestPolicyOfFactors: a process that is frozen begins with the W_MAX that its policy file has, and keeps it.
func TestPolicyOfFactors(t *testing.T) {
	if !testkit.Learning || asan.On {
		t.Skip("skipped: nothing is learnt in this build, or blocks have exactly the bytes that were asked for")
	}
	w := learn.NewWMax()
	for range 60 {
		cost := 1.
		if w.Factor(true) == 1.5 {
			cost = 0.5
		}
		w.Window(learn.WMaxWindow{Seconds: 1, Misses: 1000, CPU: cost})
	}
	known := w.Snapshot()
	for want, of := range map[string]*learn.WMaxSnapshot{"1.5": &known, "1": nil} {
		s := learn.New(learn.TypicalMachine.Costs(64<<10, 0.1)).Snapshot()
		s.WMax = of
		var file bytes.Buffer
		if err := s.Write(&file, nil); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(testkit.TempDir(t), "policy")
		if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		testkit.InChild(t, "policy of factors", want, "HAKMEM_POLICY="+path, "HAKMEM_W_MAX=auto", "HAKMEM_EVO=frozen")
	}
}

var _ = testkit.Child("policy of sizes", policyOfSizes)

// policyOfSizes imports block sizes while goroutines allocate and free with Malloc and through Heaps, of the
// sizes that they divide. Every block keeps its contents, and GoodSize never says more than there is.
func policyOfSizes(string) error {
	const goroutines, turns, kept = 4, 100_000, 200
	var done, added atomic.Int64
	failed := make(chan error, goroutines)
	for g := range goroutines {
		go func() {
			failed <- func() error {
				r := rand.New(rand.NewPCG(uint64(g), 2))
				malloc, free := hakmem.Malloc, hakmem.Free
				if g%2 == 1 {
					h := hakmem.NewHeap()
					defer h.Close()
					malloc, free = h.Malloc, h.Free
				}
				var blocks [kept]struct {
					p    unsafe.Pointer
					size uintptr
				}
				for i := range turns + kept {
					b := &blocks[i%kept]
					if b.p != nil {
						if !testkit.Intact(b.p, b.size, uint64(uintptr(b.p))) {
							return fmt.Errorf("a block of %d bytes lost its contents", b.size)
						}
						if r.IntN(8) == 0 {
							b.p = hakmem.Realloc(b.p, b.size+100)
						}
						free(b.p)
						b.p = nil
					}
					if i >= turns {
						continue
					}
					b.size = []uintptr{4097, 8193}[r.IntN(2)] + uintptr(r.IntN(300))
					most := hakmem.GoodSize(b.size) // the size may be added after this
					b.p = malloc(b.size)
					n := hakmem.UsableSize(b.p)
					if least := hakmem.GoodSize(b.size); n < b.size || n > most || n < least {
						return fmt.Errorf("%d bytes: %d, between GoodSizes of %d and %d", b.size, n, most, least)
					}
					if n == 4224 || n == 8320 {
						added.Add(1)
					}
					testkit.Fill(b.p, b.size, uint64(uintptr(b.p)))
					done.Add(1)
				}
				return nil
			}()
		}()
	}
	var err error
	for _, size := range []int{4224, 8320} {
		for n := done.Load(); done.Load() < n+goroutines*turns/8 && len(failed) == 0; {
			runtime.Gosched()
		}
		s := engine.Learnt()
		s.Sizes = []learn.BlockSize{{Size: size, Weight: 1}}
		var file bytes.Buffer
		err = errors.Join(err, s.Write(&file, nil), hakmem.ImportPolicy(&file))
	}
	for range goroutines {
		err = errors.Join(err, <-failed)
	}
	if n := added.Load(); n < turns/10 && err == nil {
		err = fmt.Errorf("%d blocks have an added size", n)
	}
	classes := hakmem.SizeClasses()
	if !slices.IsSorted(classes) || !slices.Contains(classes, 4224) || !slices.Contains(classes, 8320) || hakmem.GoodSize(4112) != 4224 {
		err = errors.Join(err, fmt.Errorf("SizeClasses: %v", classes))
	}
	s := workout.ReadStats()
	if len(s.Classes) != len(classes) {
		err = errors.Join(err, fmt.Errorf("%d classes in the statistics, %d in SizeClasses", len(s.Classes), len(classes)))
	}
	for i, c := range s.Classes {
		if c.Size != uint64(classes[i]) || c.Live != 0 {
			err = errors.Join(err, fmt.Errorf("class %d of the statistics: %+v", i, c))
		}
	}
	return errors.Join(err, hakmem.CheckInvariants())
}

// TestPolicyOfSizes: block sizes come with a policy file, at any time.
func TestPolicyOfSizes(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; a block has exactly the bytes that were asked for")
	}
	testkit.InChild(t, "policy of sizes", "")
}

var _ = testkit.Child("policy export file", policyExportFile)

// policyExportFile writes files in the directory arg as the timer of HAKMEM_POLICY_EXPORT does.
func policyExportFile(arg string) error {
	path := filepath.Join(arg, "policy")
	for _, mode := range []fs.FileMode{0o644, 0o644, 0o600} {
		before, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		default:
			if err := os.Chmod(path, mode); err != nil {
				return err
			}
		}
		if !hakmem.ExportPolicyFile(path) {
			return fmt.Errorf("the file is not written: %w", hakmem.Err())
		}
		after, err := os.Stat(path)
		if err != nil || os.SameFile(before, after) {
			return fmt.Errorf("the file was overwritten and not replaced: %w", err)
		}
		if got := after.Mode().Perm(); got != mode && runtime.GOOS != "windows" {
			return fmt.Errorf("the file has the permissions %v, want %v", got, mode)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = learn.ReadState(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	// A directory that is not there yet, and then is.
	missing := filepath.Join(arg, "missing")
	late := filepath.Join(missing, "policy")
	for range 2 {
		if hakmem.ExportPolicyFile(late) {
			return fmt.Errorf("%s is written, in a directory that is not there", late)
		}
	}
	text := fmt.Sprint(hakmem.Err())
	if want := fmt.Sprintf("HAKMEM_POLICY_EXPORT=%q", late); strings.Count(text, want) != 1 || !strings.Contains(text, "tried again every 10s") {
		return fmt.Errorf("after two failures Err() = %s", text)
	}
	if err := os.Mkdir(missing, 0o700); err != nil {
		return err
	}
	if !hakmem.ExportPolicyFile(late) || fmt.Sprint(hakmem.Err()) != text {
		return fmt.Errorf("%s is not written once its directory is there; Err() = %w", late, hakmem.Err())
	}
	if hakmem.ExportPolicyFile(missing) {
		return errors.New("a directory was replaced")
	}
	if text := fmt.Sprint(hakmem.Err()); !strings.Contains(text, fmt.Sprintf("HAKMEM_POLICY_EXPORT=%q", missing)) {
		return fmt.Errorf("a directory: Err() = %s", text)
	}
	left, err := filepath.Glob(filepath.Join(arg, "*"))
	if len(left) != 2 {
		return fmt.Errorf("%q are left, want the file and the directory: %w", left, err)
	}
	return nil
}

// TestPolicyExportFile: the file of HAKMEM_POLICY_EXPORT is replaced by a whole one each time. Of several
// errors in a row the first is reported, and the file is written when the reason is gone.
func TestPolicyExportFile(t *testing.T) {
	testkit.InChild(t, "policy export file", testkit.TempDir(t))
}

var _ = testkit.Child("explained", explained)

// explained finds in the explanation what it has allocated, for how long memory is kept, and that it is kept
// for less long than at first.
func explained(string) error {
	c := &testkit.Clock{}
	c.Skip(time.Hour)
	engine.SetClock(c)
	p := hakmem.Malloc(64 << 20)
	defer hakmem.Free(p)
	rareDemand(c, 20)
	var b strings.Builder
	if err := hakmem.Explain(&b); err != nil {
		return err
	}
	text := b.String()
	for _, want := range []string{
		`\b(64|72)(\.\d)? MiB( of it are live blocks\.|; some of that was not written to)`, // 72: hardened, as with -asan
		`The learner is in LEARN for [\d.]+ s, by the policy learn\.`,
		`(?m)^  At [\d.]+ s the hold times? of free pages in (band \d+|\d+ bands) went from \S+ m?s to .* m?s, because waits there are longer`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			return fmt.Errorf("the explanation does not say %q:\n%s", want, text)
		}
	}
	m := regexp.MustCompile(`kept for (\S+) (m?s) on average`).FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("the explanation does not say for how long free pages are kept:\n%s", text)
	}
	hold := workout.ReadStats().Scavenger.HoldTime
	if said, err := time.ParseDuration(m[1] + m[2]); err != nil || (said-hold).Abs() > hold/20+time.Millisecond {
		return fmt.Errorf("free pages are said to be kept for %v, and are for %v: %w", said, hold, err)
	}
	return nil
}

// TestExplain: the explanation is of this process. The error of a writer is returned.
func TestExplain(t *testing.T) {
	if !testkit.Learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	testkit.InChild(t, "explained", "")
	if err := hakmem.Explain(failing{}); !errors.Is(err, errFailing) {
		t.Errorf("Explain to a writer that fails = %v", err)
	}
}

// TestWriteBoard: the board has all twelve strategies, whoever has played.
func TestWriteBoard(t *testing.T) {
	if !testkit.Learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	hakmem.Free(hakmem.Malloc(100))
	var b bytes.Buffer
	if err := hakmem.WriteBoard(&b); err != nil {
		t.Fatal(err)
	}
	if rows := regexp.MustCompile(`(?m)^ *\d+  x [\d.]+ +x [\d.]+ +\d+ `).FindAllString(b.String(), -1); len(rows) != 12 {
		t.Errorf("%d strategies, want 12:\n%s", len(rows), &b)
	}
	if err := hakmem.WriteBoard(failing{}); !errors.Is(err, errFailing) {
		t.Errorf("WriteBoard to a writer that fails = %v", err)
	}
}

var errFailing = errors.New("no room")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFailing }
