package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Container makes a control group of version 1 or 2 with a memory limit, and returns two files of it: a
// process that writes its number to the first is in the group, and the second has the limit. The test is
// skipped where no group can be made. The group is removed when the test ends.
func Container(t *testing.T, bytes uint64) (procs, limit string) {
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
		dir := filepath.Join(p[0], fmt.Sprintf("hakmem-test-%d", os.Getpid()))
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
