package engine

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// sectionMayCall has the functions of the fast section and what each of them may call in the object
// code: see callsOnlyItsOwn. (R) is an address in a register, the slow exit.
var sectionMayCall = map[string]map[string][]string{
	"amd64": { // assembly, which jumps to the slow exit
		"mallocTiny": nil, "mallocMissed": nil, "mallocMid": nil, "mallocLarge": nil, "mallocSampled": nil,
		"freeTiny": nil, "freeMissed": nil, "freeMid": nil, "pOfG": nil,
	},
	"arm64": {
		"mallocTiny": {"runtime.getm", enginePrefix + "mallocMid"},
		"mallocMid":  {"runtime.getm", "(R)"},
		"freeTiny":   {"runtime.getm", enginePrefix + "freeMid"},
		"freeMid":    {"runtime.getm", "(R)"},
	},
}

// TestSectionCalls looks into the object code of builds of many kinds for calls in the fast section.
// A build with a call that is not listed must notice it when it starts, and pin.
func TestSectionCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: -short; it builds for minutes")
	}
	const mine = "github.com/hakmem/hakmem/..."
	// Every package of -coverpkg is compiled and linked, whether the test imports it or not. In the workspace
	// mine has SQLite, Arrow and gRPC below it, and the section only what is of these.
	const counted = "github.com/hakmem/hakmem/internal/..."
	for _, arch := range []string{"amd64", "arm64"} {
		for _, b := range []struct {
			name  string
			flags []string
			calls bool // on arm64 this build puts calls into the section
		}{
			{"plain", nil, false},
			{"fuzz", []string{"-gcflags=" + mine + "=-d=libfuzzer"}, true},          // as go test -fuzz does
			{"cover", []string{"-covermode=atomic", "-coverpkg=" + counted}, false}, // the other modes count with plain additions
			{"not optimized", []string{"-gcflags=" + mine + "=-N -l"}, true},
			{"not inlined", []string{"-gcflags=" + mine + "=-l"}, true},
		} {
			t.Run(arch+" "+b.name, func(t *testing.T) {
				binary := filepath.Join(t.TempDir(), "section.test")
				build := exec.Command("go", append([]string{"test", "-c", "-vet=off", "-o", binary}, append(b.flags, "github.com/hakmem/hakmem/internal/golden/section")...)...)
				build.Env = append(os.Environ(), "GOOS="+runtime.GOOS, "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
				if out, err := build.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
					t.Skip("skipped: no go command")
				} else if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				unlisted := unlistedCalls(t, binary, arch)
				if len(unlisted) > 0 && (arch != "arm64" || !b.calls) {
					t.Errorf("the section calls %q", unlisted)
				}
				if len(unlisted) == 0 && arch == "arm64" && b.calls {
					t.Error("no call was found: does this build still put some there?")
				}
				taken, why := runsSection(binary, arch)
				switch {
				case why != "":
					t.Logf("not run: %s; calls that are not listed: %q", why, unlisted)
				case taken != (len(unlisted) == 0):
					t.Errorf("the section is taken: %v; calls that are not listed: %q", taken, unlisted)
				}
			})
		}
	}
}

var sectionText = regexp.MustCompile(`(?m)^TEXT (\S+?)(?:\.abi0)?\(SB\)`)

// unlistedCalls disassembles the section's functions, all of which must be there, and returns the
// calls that are not listed.
func unlistedCalls(t *testing.T, binary, arch string) (calls []string) {
	t.Helper()
	may := sectionMayCall[arch]
	names := make([]string, 0, len(may))
	for name := range may {
		names = append(names, name)
	}
	out, err := exec.Command("go", "tool", "objdump", "-s", "^"+regexp.QuoteMeta(enginePrefix)+"("+strings.Join(names, "|")+")(.abi0)?$", binary).Output()
	if err != nil {
		t.Fatalf("go tool objdump: %v", err)
	}
	at := sectionText.FindAllSubmatchIndex(out, -1)
	seen := map[string]bool{}
	for i, m := range at {
		name := strings.TrimPrefix(string(out[m[2]:m[3]]), enginePrefix)
		seen[name] = true
		end := len(out)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		for line := range bytes.Lines(out[m[1]:end]) {
			_, callee, is := strings.Cut(string(line), "CALL ")
			if !is {
				continue
			}
			callee = strings.TrimSuffix(strings.TrimSpace(callee), "(SB)")
			if strings.HasPrefix(callee, "(R") {
				callee = "(R)"
			}
			if !slices.Contains(may[name], callee) {
				calls = append(calls, name+": "+callee)
			}
		}
	}
	for _, name := range names {
		if !seen[name] {
			t.Errorf("there is no %s in the object code", name)
		}
	}
	return calls
}

var sectionTaken = regexp.MustCompile(`taken: (true|false)`)

// runsSection runs the test and returns what it says, or why it cannot be run here.
func runsSection(binary, arch string) (taken bool, why string) {
	args := []string{binary, "-test.v"}
	if arch != runtime.GOARCH {
		qemu := map[string]string{"arm64": "qemu-aarch64-static", "amd64": "qemu-x86_64-static"}[arch]
		if _, err := exec.LookPath(qemu); err != nil {
			return false, "no " + qemu
		}
		args = append([]string{qemu}, args...)
	}
	run := exec.Command(args[0], args[1:]...)
	run.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HAKMEM_") })
	out, err := run.CombinedOutput()
	m := sectionTaken.FindSubmatch(out)
	if err != nil || m == nil {
		return false, "it failed: " + string(out)
	}
	return string(m[1]) == "true", ""
}

// TestSectionLeftOut: builds whose instrumentation has a tag leave the section out.
func TestSectionLeftOut(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, flag := range []string{"-race", "-asan", "-msan"} {
			list := exec.Command("go", "list", flag, "-f", "{{.GoFiles}} {{.SFiles}}", ".")
			list.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=1", "GOFLAGS=")
			out, err := list.CombinedOutput()
			switch {
			case errors.Is(err, exec.ErrNotFound):
				t.Skip("skipped: no go command")
			case err != nil:
				t.Errorf("%s %s: %v\n%s", arch, flag, err, out)
			case !strings.Contains(string(out), "road_none.go"), strings.Contains(string(out), "road_"+arch), strings.Contains(string(out), "road_live"):
				t.Errorf("%s %s: the files are %s", arch, flag, out)
			}
		}
	}
}
