// Package cgroup finds the memory limit of the container in which the process runs: of its control
// group, in version 1 or 2 of them, and of the groups above. It only reads files, and keeps no
// state.
package cgroup

import (
	"os"
	"path"
	"strconv"
	"strings"
)

// Limit returns the memory limit of the process's control group in bytes: the lowest of those that
// hold for the group and for the groups above it that can be seen. It returns false where there is
// none, which is so without a container, on systems other than Linux, and where the files that say
// so cannot be read. The limit is read anew at each call. Any goroutine; it makes some ten system
// calls that read files.
func Limit() (bytes uint64, ok bool) { return limitIn("") }

// limitIn is Limit with another directory in place of the file system's root. For tests.
func limitIn(root string) (bytes uint64, ok bool) {
	groups, err := os.ReadFile(root + "/proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	mounts, err := os.ReadFile(root + "/proc/self/mountinfo")
	if err != nil {
		return 0, false
	}
	for _, h := range hierarchies(string(groups), string(mounts)) {
		for _, dir := range h.dirs() {
			for _, file := range h.files {
				if n, limited := read(root + path.Join(dir, file)); limited && (!ok || n < bytes) {
					bytes, ok = n, true
				}
			}
		}
	}
	return bytes, ok
}

// hierarchy is a mounted tree of groups that may limit memory.
type hierarchy struct {
	mount string   // where it is mounted
	group string   // the process's group, below mount
	files []string // the names of files with limits, in each group
}

// dirs returns the directory of the process's group and those above it.
func (h hierarchy) dirs() (dirs []string) {
	for dir := h.group; ; dir = path.Dir(dir) {
		dirs = append(dirs, path.Join(h.mount, dir))
		if dir == "/" {
			return dirs
		}
	}
}

// The files with limits. Beyond memory.max the kernel ends the process. Beyond memory.high it stops
// the process again and again, so that limit is to be kept as well.
var (
	files1 = []string{"memory.limit_in_bytes"}
	files2 = []string{"memory.max", "memory.high"}
)

// hierarchies finds in /proc/self/cgroup and /proc/self/mountinfo which trees of groups there are
// and which group of each the process is in.
func hierarchies(groups, mounts string) (found []hierarchy) {
	var group1, group2 string // in versions 1 and 2; "" is none
	for line := range strings.Lines(groups) {
		// number:controllers:group. Version 2 has the number 0 and no controllers.
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(f) < 3:
		case f[0] == "0" && f[1] == "":
			group2 = path.Clean("/" + f[2])
		case has(f[1], "memory"):
			group1 = path.Clean("/" + f[2])
		}
	}
	for line := range strings.Lines(mounts) {
		// number, parent, device, root, mount point, options, more fields up to "-", type, source,
		// options of the file system.
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 3 {
			continue
		}
		h := hierarchy{mount: unescape(f[4])}
		switch {
		case g[0] == "cgroup2" && group2 != "":
			h.group, h.files = group2, files2
		case g[0] == "cgroup" && has(g[2], "memory") && group1 != "":
			h.group, h.files = group1, files1
		default:
			continue
		}
		// Only a part of the tree may be mounted: the group root and what is below it. A group
		// outside of that cannot be seen, and neither can its limit; what is mounted is what the
		// container's maker meant to show.
		root := path.Clean("/" + unescape(f[3]))
		switch below, inside := strings.CutPrefix(h.group, root); {
		case root == "/" && !strings.HasPrefix(h.group, "/.."):
		case inside && (below == "" || below[0] == '/'):
			h.group = path.Clean("/" + below)
		default:
			h.group = "/"
		}
		found = append(found, h)
	}
	return found
}

// has reports whether a list with commas has the word.
func has(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// unescape undoes the escapes of mountinfo: a space is \040, for example.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// none is the least number of bytes that is no limit: version 1 writes nearly 2^63 where there is
// none, and 2^47 is all that a process may address on most systems.
const none = 1 << 62

// read returns the limit in a file. There is none if the file cannot be read or says "max".
func read(file string) (n uint64, limited bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil && n < none
}
