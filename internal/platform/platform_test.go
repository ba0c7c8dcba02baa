package platform

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	wrongPlatform = "hakmem needs a 64-bit platform with Linux, macOS, FreeBSD or Windows"
	notPorted     = "hakmem has not been ported to this 64-bit processor: docs/design.md"
)

// targets are platforms with the message with which the build must fail, or "" where it must
// succeed.
var targets = map[string]string{
	"linux/386": wrongPlatform, "linux/arm": wrongPlatform, "linux/mips": wrongPlatform, "linux/mipsle": wrongPlatform,
	"windows/386": wrongPlatform, "freebsd/386": wrongPlatform, "freebsd/arm": wrongPlatform, "android/arm": wrongPlatform,
	"js/wasm": wrongPlatform, "wasip1/wasm": wrongPlatform, "plan9/386": wrongPlatform, "plan9/amd64": wrongPlatform,
	"openbsd/amd64": wrongPlatform, "netbsd/arm64": wrongPlatform, "solaris/amd64": wrongPlatform, "aix/ppc64": wrongPlatform,
	"linux/ppc64": notPorted, "linux/mips64": notPorted, "linux/mips64le": notPorted,
	"linux/amd64": "", "linux/arm64": "", "linux/riscv64": "", "linux/ppc64le": "", "linux/s390x": "", "linux/loong64": "",
	"darwin/arm64": "", "darwin/amd64": "", "freebsd/amd64": "", "windows/amd64": "", "windows/arm64": "",
}

func goCommand(t *testing.T, target string, args ...string) (string, error) {
	t.Helper()
	system, arch, _ := strings.Cut(target, "/")
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestTargets builds this package for each target, which is quick because it imports nothing.
func TestTargets(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("skipped: no go command: ", err)
	}
	for target, want := range targets {
		out, err := goCommand(t, target, "build", ".")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		switch {
		case want == "" && (err != nil || out != ""):
			t.Errorf("%s: %v\n%s", target, err, out)
		case want != "" && (err == nil || len(lines) != 2 || !strings.HasPrefix(lines[0], "# ") || strings.Count(lines[1], want) != 1):
			t.Errorf("%s: %v, want one line with %q, got\n%s", target, err, want, out)
		}
	}
}

// TestImported checks that the one package that differs by platform imports this one, and that this
// one imports nothing. Only then does the build of hakmem end with the message of this package
// instead of errors in packages that do not compile.
func TestImported(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("skipped: no go command: ", err)
	}
	const internal = "github.com/hakmem/hakmem/internal/"
	for target := range targets {
		out, err := goCommand(t, target, "list", "-f", `{{.Name}}: {{join .Imports " "}}`, internal+"osmem", ".")
		osmem, platform, _ := strings.Cut(strings.TrimSpace(out), "\n")
		if err != nil || !slices.Contains(strings.Fields(osmem), internal+"platform") || platform != "platform: " && platform != "platform:" {
			t.Errorf("%s: %v, the imports are\n%s", target, err, out)
		}
	}
}
