//go:build !hakmem_racetrack

// With that tag Go counts hakmem's address range as memory of its own (see the package comment).

package governor

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

var _ = testkit.Child("container", inContainer)

// TestContainer: in a container of 1 GiB a process with a governor is not ended by the kernel, and a container
// that is made larger is noticed.
func TestContainer(t *testing.T) {
	if testkit.Race {
		t.Skip("skipped: the race detector's own memory, several times that of the program, is not counted by Go's limit")
	}
	const size = 1 << 30
	procs, limit := testkit.Container(t, size)
	cmd := exec.Command("/bin/sh", "-c", `echo $$ > "$1" && exec "$2"`, "sh", procs, os.Args[0])
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HAKMEM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, testkit.ChildEnv("container", limit))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out[:min(len(out), 4000)])
	}
	t.Logf("%s", out)
}

// inContainer swings within the container, makes it larger, and looks whether that was noticed. limit is the
// file with the container's limit.
func inContainer(limit string) error {
	n, ok := hakmem.ContainerLimit()
	if !ok || n != 1<<30 {
		return fmt.Errorf("the container's limit is %d, %t", n, ok)
	}
	if err := swing(n); err != nil {
		return err
	}
	p := &later{thisProcess: newProcess(), looked: make(chan time.Time)}
	g, err := start(Options{}, p)
	if err != nil {
		return err
	}
	defer g.Close()
	if err := os.WriteFile(limit, []byte(strconv.Itoa(1200*mib)), 0); err != nil {
		return err
	}
	p.looked <- time.Time{}
	p.looked <- time.Time{} // it has looked
	g.Close()
	if g.container != 1200*mib {
		return fmt.Errorf("the container's limit is taken to be %d", g.container)
	}
	return nil
}

// later is this process, in which ten seconds pass at each look.
type later struct {
	*thisProcess
	looked chan time.Time
	clock  time.Duration
}

func (p *later) since() time.Duration                 { p.clock += containerPeriod; return p.clock }
func (p *later) after(time.Duration) <-chan time.Time { return p.looked }
