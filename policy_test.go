package hakmem_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
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

var errFailing = errors.New("no room")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFailing }
