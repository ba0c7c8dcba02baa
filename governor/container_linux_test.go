//go:build !hakmem_racetrack

// With that tag Go counts hakmem's address range as memory of its own (see the package comment).

package governor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	procs, limit := container(t, size)
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

// container makes a control group of version 1 or 2 with a memory limit, and returns two files of it: a
// process that writes its number to the first is in the group, and the second has the limit. The test is
// skipped where no group can be made. The group is removed when the test ends.
func container(t *testing.T, bytes uint64) (procs, limit string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can make a control group")
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skip("skipped: no control groups: ", err)
	}
	var places [][2]string // directories that may take a group, and the file with the limit
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && f[1] == "memory" {
			places = append(places, [2]string{"/sys/fs/cgroup/memory" + f[2], "memory.limit_in_bytes"}, [2]string{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"})
		}
		if len(f) == 3 && f[0] == "0" {
			places = append(places, [2]string{"/sys/fs/cgroup" + f[2], "memory.max"}, [2]string{"/sys/fs/cgroup", "memory.max"})
		}
	}
	var errs []error
	for _, p := range places {
		dir := filepath.Join(p[0], fmt.Sprintf("hakmem-governor-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		limit := filepath.Join(dir, p[1])
		err := os.WriteFile(limit, []byte(strconv.FormatUint(bytes, 10)), 0)
		if err == nil {
			t.Cleanup(func() {
				for range 100 { // the kernel may need a moment after the last process has ended
					if err = os.Remove(dir); err == nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
				t.Error(err)
			})
			return filepath.Join(dir, "cgroup.procs"), limit
		}
		errs = append(errs, err, os.Remove(dir))
	}
	t.Skip("skipped: no control group with a memory limit can be made: ", errors.Join(errs...))
	return "", ""
}
