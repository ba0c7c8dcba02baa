package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// peer is a malloc with which the C driver can be run.
type peer struct {
	name    string
	library string // for LD_PRELOAD, found by the dynamic linker; "" is the malloc of libc
	debian  string // the Debian package that contains it
}

var peers = []peer{
	{"mimalloc", "libmimalloc.so.2", "libmimalloc2.0"},
	{"jemalloc", "libjemalloc.so.2", "libjemalloc2"},
	{"gperftools", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"},
	{"glibc", "", ""},
}

// formerNames are what allocators were called by mistake, and what --alloc takes
// them for where nothing else has the name. gperftools' malloc is not the
// tcmalloc of github.com/google/tcmalloc, which --peer can add.
var formerNames = map[string]string{"tcmalloc": "gperftools"}

// droppedEnv are the beginnings of the variables that would tune one side: the
// allocators' own, the Go runtime's and the dynamic linker's.
var droppedEnv = []string{
	"HAKMEM_", "MIMALLOC_", "MALLOC_", "_RJEM_MALLOC_", "JEMALLOC_", "TCMALLOC_", "GLIBC_TUNABLES",
	"GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "LD_PRELOAD",
}

// field says which allocators take part in a comparison, and in which environment they run.
type field struct {
	peers      []peer
	placements int // 0: only this program itself
	env        []string
	set        []string // the part of env that --env asked for
	dropped    []string // names of the caller's variables that were left out

	// These are set by prepare.
	programs []string
	cgo      string // the program with cgo's malloc
	cgoErr   error
	driver   string
	noDriver error
	clean    func()
}

// fieldFlags are the flags that choose the participants.
func fieldFlags() []cli.Flag { return []cli.Flag{placementsFlag(), envFlag(), peerFlag()} }

func envFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "env", Usage: "pass the variable `NAME[=VALUE]` on to all runs; may be repeated"}
}

func peerFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "peer", Aliases: []string{"lib"}, Usage: "add a peer under a name of your choice, a library to preload: `NAME=PATH`, such as mimalloc3=/path/libmimalloc.so.3; mimalloc, jemalloc and gperftools replace what is installed; may be repeated"}
}

// readField reads fieldFlags.
func readField(c *cli.Command) (*field, error) {
	f := &field{peers: slices.Clone(peers), clean: func() {}}
	f.env, f.dropped = cleanEnv(os.Environ())
	var err error
	if f.placements, err = readPlacements(c); err != nil {
		return nil, err
	}
	if f.set, err = readEnv(c); err != nil {
		return nil, err
	}
	f.env = append(f.env, f.set...)
	for _, v := range c.StringSlice("peer") {
		name, path, _ := strings.Cut(v, "=")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			if abs, err := filepath.Abs(path); err == nil {
				path = abs // for a bare name the dynamic linker would look elsewhere
			}
		}
		i := slices.IndexFunc(f.peers, func(p peer) bool { return p.name == name })
		switch {
		case name == "" || path == "" || strings.ContainsAny(name, ", "):
			return nil, usagef("--peer %q: use NAME=PATH, such as mymalloc=/path/libmymalloc.so", v)
		case slices.Contains(loops.Allocators(), name) || result.IsHakmem(name) || name == loops.Cgo || name == loops.Empty || i >= 0 && f.peers[i].library == "":
			return nil, usagef("--peer %q: %s is no preloaded library; use another name, or mimalloc=PATH, jemalloc=PATH, gperftools=PATH", v, name)
		case i >= 0:
			f.peers[i].library = path
		default:
			f.peers = append(f.peers, peer{name: name, library: path})
		}
	}
	return f, nil
}

// readEnv reads the variables that --env passes on.
func readEnv(c *cli.Command) (set []string, err error) {
	for _, v := range c.StringSlice("env") {
		name, _, hasValue := strings.Cut(v, "=")
		if name == "" {
			return nil, usagef("--env %q: use NAME=VALUE, or NAME to pass on the value it has", v)
		}
		if !hasValue {
			value, ok := os.LookupEnv(name)
			if !ok {
				return nil, usagef("--env %q: the variable is not set; set it or use %s=VALUE", v, name)
			}
			v = name + "=" + value
		}
		set = append(set, v)
	}
	return set, nil
}

// names lists all that can take part: hakmem's two interfaces, the native peers and the Go peers.
func (f *field) names() []string {
	list := []string{"hakmem", "hakmem-heap"}
	for _, p := range f.peers {
		list = append(list, p.name)
	}
	for _, name := range append(loops.Allocators(), loops.Cgo) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// tuning returns the variables of env that tune one side. (`bench` keeps them.)
func tuning(env []string) (set []string) {
	for _, v := range env {
		if tunes(v) {
			set = append(set, v)
		}
	}
	return set
}

func tunes(v string) bool {
	return slices.ContainsFunc(droppedEnv, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
}

// cleanEnv returns env without the variables that would tune one side, and the names of those it
// left out.
func cleanEnv(env []string) (kept, dropped []string) {
	for _, v := range env {
		if tunes(v) {
			name, _, _ := strings.Cut(v, "=")
			dropped = append(dropped, name)
		} else {
			kept = append(kept, v)
		}
	}
	return kept, dropped
}

// prepare builds the programs that the names need, before anything is measured. f.clean removes
// those that were built for this call only.
func (f *field) prepare(ctx context.Context, names []string, bar *progress) error {
	var err error
	if f.programs, f.clean, err = goPrograms(ctx, f.placements, bar); err != nil {
		return err
	}
	if slices.Contains(names, loops.Cgo) {
		bar.doing("building with cgo")
		f.cgo, f.cgoErr = buildCgo(ctx)
		if f.cgo != "" {
			clean := f.clean
			f.clean = func() { clean(); os.Remove(f.cgo) }
		}
	}
	if slices.ContainsFunc(f.peers, func(p peer) bool { return slices.Contains(names, p.name) }) {
		bar.doing("building the C driver")
		f.driver, f.noDriver = buildDriver(ctx)
	}
	bar.close()
	return nil
}

// contestants returns those of the names for one job, and both empty loops.
func (f *field) contestants(j job, names []string) []*contestant {
	var list []*contestant
	cSide := func(name, library string, empty bool) {
		c := &contestant{name: name, side: sideC, placements: 1, preload: library, command: func(_ int, v variant) command {
			return driverCommand(f.driver, f.env, j, library, empty, v)
		}}
		if f.noDriver != nil {
			c.absent = f.noDriver.Error()
		}
		list = append(list, c)
	}
	goSide := false
	for _, name := range names {
		i := slices.IndexFunc(f.peers, func(p peer) bool { return p.name == name })
		switch {
		case i >= 0:
			cSide(name, f.peers[i].library, false)
		case name == loops.Cgo:
			c := goContestant(name, []string{f.cgo}, f.env, j)
			if f.cgoErr != nil {
				c.absent = f.cgoErr.Error()
			}
			list = append(list, c)
			goSide = true
		default:
			list = append(list, goContestant(name, f.programs, f.env, j))
			goSide = true
		}
	}
	if goSide {
		list = append(list, goContestant(loops.Empty, f.programs, f.env, j))
	}
	if f.driver != "" {
		cSide(loops.Empty, "", true)
	}
	return list
}

// explainAbsent adds to each absent peer how it can be installed. If glibc is absent, it says that
// the libc of this system is another one.
func explainAbsent(contestants []*contestant) {
	for _, c := range contestants {
		i := slices.IndexFunc(peers, func(p peer) bool { return p.name == c.name })
		if i < 0 {
			continue
		}
		if strings.HasPrefix(c.absent, errNoLibrary.Error()) && c.preload == peers[i].library {
			c.absent = fmt.Sprintf("the dynamic linker does not find %s (Debian: %s; bench/native/setup.sh installs it)", c.preload, peers[i].debian)
		}
		if c.preload == "" && len(c.runs) > 0 && !strings.HasPrefix(c.runs[0].Version, c.name+" ") {
			c.absent = "the C library here is not " + c.name
		}
	}
}

// sameFile reports whether from, the file that malloc came from, is the preloaded library, which
// the dynamic linker may have found by name.
func sameFile(from, library string) bool {
	return filepath.Base(from) == filepath.Base(library)
}

// onLinux returns nil on Linux. Elsewhere its error says why there is no C side.
func onLinux() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the C side needs Linux's LD_PRELOAD and /proc; this is %s", runtime.GOOS)
	}
	return nil
}
