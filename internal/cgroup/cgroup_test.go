package cgroup

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestLimit: in each layout of control groups that there is, the limit that holds is found.
func TestLimit(t *testing.T) {
	const (
		v2    = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
		v1    = "35 30 0:31 / /sys/fs/cgroup/memory rw,relatime shared:16 - cgroup cgroup rw,memory\n"
		other = "34 30 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
		big   = "9223372036854771712\n" // what version 1 says where there is no limit
	)
	for _, c := range []struct {
		name, groups, mounts string
		files                map[string]string
		want                 uint64
		ok                   bool
	}{
		{"no /proc", "", "", nil, 0, false},
		{"no limit", "0::/a\n", v2, map[string]string{"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.high": "max\n"}, 0, false},
		{"no controller", "0::/a\n", v2, map[string]string{"sys/fs/cgroup/a/cpu.max": "max 100000\n"}, 0, false},
		{"version 2", "0::/a\n", v2 + other, map[string]string{"sys/fs/cgroup/a/memory.max": "1000\n"}, 1000, true},
		{"version 2, above the group", "0::/a/b/c\n", v2, map[string]string{"sys/fs/cgroup/a/memory.max": "1000\n", "sys/fs/cgroup/a/b/c/memory.max": "max\n"}, 1000, true},
		{"version 2, the lowest of three", "0::/a/b\n", v2, map[string]string{"sys/fs/cgroup/memory.max": "3000\n", "sys/fs/cgroup/a/memory.max": "1000\n", "sys/fs/cgroup/a/b/memory.max": "2000\n"}, 1000, true},
		{"version 2, high", "0::/a\n", v2, map[string]string{"sys/fs/cgroup/a/memory.max": "2000\n", "sys/fs/cgroup/a/memory.high": "1500\n"}, 1500, true},
		{"version 2, a namespace", "0::/\n", "30 25 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n", map[string]string{"sys/fs/cgroup/memory.max": "1000\n"}, 1000, true},
		{"version 2, a part is mounted", "0::/docker/x/y\n", "30 25 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
			map[string]string{"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/y/memory.max": "900\n"}, 900, true},
		{"version 2, the group is not below the mount", "0::/../../z\n", v2, map[string]string{"sys/fs/cgroup/memory.max": "1000\n"}, 1000, true},
		{"version 2, a group that begins like the mount's", "0::/docker/xy\n", "30 25 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
			map[string]string{"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/y/memory.max": "900\n"}, 1000, true},
		{"version 2, a place with a space", "0::/a\n", `30 25 0:26 / /my\040groups rw - cgroup2 cgroup2 rw` + "\n", map[string]string{"my groups/a/memory.max": "1000\n"}, 1000, true},
		{"version 1", "4:memory:/a\n3:cpu,cpuacct:/q\n", other + v1, map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n"}, 1000, true},
		{"version 1, above the group", "4:memory:/a/b\n", v1, map[string]string{"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": big, "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n"}, 1000, true},
		{"version 1, no limit", "4:memory:/a\n", v1, map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": big}, 0, false},
		{"version 1, in docker", "4:memory:/docker/x\n", "35 30 0:31 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n"}, 1000, true},
		{"version 1, mounted with others", "4:cpu,memory:/a\n", "35 30 0:31 / /m rw - cgroup cgroup rw,cpu,memory\n", map[string]string{"m/a/memory.limit_in_bytes": "1000\n"}, 1000, true},
		{"both versions", "4:memory:/a\n0::/b\n", v1 + "36 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n", "sys/fs/cgroup/unified/b/cgroup.procs": ""}, 1000, true},
		{"nonsense", "x\n0:y\n", "a b - c\nfoo\n - \n", nil, 0, false},
		{"a limit that is no number", "0::/a\n", v2, map[string]string{"sys/fs/cgroup/a/memory.max": "-1\n"}, 0, false},
		{"a limit of 0", "0::/a\n", v2, map[string]string{"sys/fs/cgroup/a/memory.max": "0\n"}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			write := func(name, text string) {
				t.Helper()
				name = filepath.Join(root, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if c.groups != "" {
				write("proc/self/cgroup", c.groups)
				if n, ok := limitIn(root); ok {
					t.Errorf("without mountinfo: %d", n)
				}
				write("proc/self/mountinfo", c.mounts)
			}
			for name, text := range c.files {
				write(name, text)
			}
			if n, ok := limitIn(root); n != c.want || ok != c.ok {
				t.Errorf("the limit is %d, %t, want %d, %t", n, ok, c.want, c.ok)
			}
		})
	}
	if n, ok := Limit(); ok && runtime.GOOS != "linux" {
		t.Errorf("a limit of %d on %s", n, runtime.GOOS)
	}
}
