package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench"
)

// peer is a malloc that the C driver can be run with.
type peer struct {
	name    string
	library string // for LD_PRELOAD, found by the dynamic linker; "": what libc has
	debian  string // the package that holds it
}

var peers = []peer{
	{"mimalloc", "libmimalloc.so.2", "libmimalloc2.0"},
	{"jemalloc", "libjemalloc.so.2", "libjemalloc2"},
	{"tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"},
	{"glibc", "", ""},
}

// droppedEnv are the beginnings of the variables that would tune one side: the
// allocators' own, the Go runtime's and the dynamic linker's.
var droppedEnv = []string{
	"HAKMEM_", "MIMALLOC_", "MALLOC_", "_RJEM_MALLOC_", "JEMALLOC_", "TCMALLOC_", "GLIBC_TUNABLES",
	"GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "LD_PRELOAD",
}

func compareVerb() *cli.Command {
	// The default is the Go side's own two interfaces and all peers.
	defaults := []string{"hakmem", "hakmem-heap"}
	known := bench.Allocators()
	for _, p := range peers {
		defaults = append(defaults, p.name)
		known = append(known, p.name)
	}
	flags := jobFlags(known)
	flags[0].(*cli.StringFlag).Value = strings.Join(defaults, ",") // --alloc
	flags = append(flags,
		&cli.StringFlag{Name: "layouts", Usage: "build hakmem's side in `N` random code layouts and report the median over them (needs the go tool and the source)"},
		&cli.StringSliceFlag{Name: "env", Usage: "pass the variable `NAME[=VALUE]` on to all runs; may be repeated"},
		&cli.StringSliceFlag{Name: "lib", Usage: "use another library for a peer, as in mimalloc=/path/libmimalloc.so (`NAME=PATH`); may be repeated"},
	)
	return &cli.Command{
		Name:      "compare",
		Usage:     "measure hakmem beside mimalloc, jemalloc, tcmalloc and glibc",
		ArgsUsage: "random_mixed|tiny_hot",
		Description: "The peers run the same loop in C (bench/native/driver.c) with LD_PRELOAD; the driver is built\n" +
			"with the C compiler at hand. bench/native/setup.sh installs the peers on Debian.\n\n" +
			"Each run is a process of its own, in an environment without " + strings.Join(droppedEnv, "*, ") + "*,\n" +
			"but for what --env passes on. A ratio is the peer's time over hakmem's: above 1, hakmem is faster.\n" +
			"\"net\" takes from each side the time of its own loop without an allocator.",
		Flags: flags, OnUsageError: badFlags,
		DisableSliceFlagSeparator: true, // values of --env may hold commas
		Action: func(ctx context.Context, c *cli.Command) error {
			j, err := readJob(c, known)
			if err != nil {
				return err
			}
			setup, err := readCompare(c)
			if err != nil {
				return err
			}
			contestants, clean, err := setup.contestants(ctx, j, c.Root().ErrWriter)
			if err != nil {
				return err
			}
			defer clean()
			bar := newProgress(c.Root().ErrWriter, j.runs*max(setup.layouts, 1)*len(contestants))
			err = interleave(ctx, j, contestants, bar)
			bar.close()
			if err != nil {
				return err
			}
			explainAbsent(contestants)
			report := makeReport(j, contestants)
			ratios := makeRatios(report)
			if j.json {
				return printJSON(c.Root().Writer, struct {
					bench.Report
					Ratios []ratioRow `json:"ratios"`
				}{report, ratios})
			}
			if err := printResults(c.Root().Writer, j, report); err != nil {
				return err
			}
			return printRatios(c.Root().Writer, ratios)
		},
	}
}

// comparison is what compare's own flags ask for.
type comparison struct {
	layouts int // 0: this very program
	env     []string
	library map[string]string // by peer, in place of its own
}

func readCompare(c *cli.Command) (comparison, error) {
	s := comparison{env: cleanEnv(os.Environ()), library: map[string]string{}}
	if c.IsSet("layouts") {
		n, err := readNumber(c, "layouts", maxRuns)
		if err != nil {
			return s, err
		}
		s.layouts = int(n)
	}
	for _, v := range c.StringSlice("env") {
		name, _, hasValue := strings.Cut(v, "=")
		if name == "" {
			return s, usagef("--env %q: use NAME=VALUE, or NAME to pass on the value it has", v)
		}
		if !hasValue {
			value, ok := os.LookupEnv(name)
			if !ok {
				return s, usagef("--env %q: the variable is not set; set it or use %s=VALUE", v, name)
			}
			v = name + "=" + value
		}
		s.env = append(s.env, v)
	}
	for _, v := range c.StringSlice("lib") {
		name, path, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(peers, func(p peer) bool { return p.name == name && p.library != "" }) || path == "" {
			return s, usagef("--lib %q: use mimalloc=PATH, jemalloc=PATH or tcmalloc=PATH", v)
		}
		s.library[name] = path
	}
	return s, nil
}

// cleanEnv returns env without what would tune one side.
func cleanEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return slices.ContainsFunc(droppedEnv, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
}

// contestants prepares both sides: programs are built here, before anything is
// measured. The function returned removes what was built for this call only.
func (s comparison) contestants(ctx context.Context, j job, stderr io.Writer) ([]*contestant, func(), error) {
	program, err := self()
	if err != nil {
		return nil, nil, err
	}
	programs, clean := []string{program}, func() {}
	if s.layouts > 0 {
		if programs, clean, err = buildLayouts(ctx, s.layouts, newProgress(stderr, s.layouts)); err != nil {
			return nil, nil, err
		}
	}
	var list []*contestant
	goSide := func(name string) {
		c := &contestant{name: name, side: sideGo}
		for _, p := range programs {
			c.commands = append(c.commands, goCommand(p, s.env, j, name))
		}
		list = append(list, c)
	}
	var driver string
	var driverErr error
	cSide := func(name, library string, more ...string) {
		if driver == "" && driverErr == nil {
			driver, driverErr = buildDriver(ctx)
		}
		c := &contestant{name: name, side: sideC, preload: library}
		if driverErr != nil {
			c.absent = driverErr.Error()
		}
		env := s.env
		if library != "" {
			env = append(slices.Clone(env), "LD_PRELOAD="+library)
		}
		c.commands = []command{{driver, append(driverArgs(j), more...), env}}
		list = append(list, c)
	}
	for _, name := range j.alloc {
		i := slices.IndexFunc(peers, func(p peer) bool { return p.name == name })
		if i < 0 {
			goSide(name)
			continue
		}
		library := peers[i].library
		if other := s.library[name]; other != "" {
			library = other
		}
		cSide(name, library)
	}
	if slices.ContainsFunc(list, func(c *contestant) bool { return c.side == sideGo }) {
		goSide(bench.Empty)
	}
	if driver != "" {
		cSide(bench.Empty, "", "--empty")
	}
	return list, clean, nil
}

// driverArgs are the C driver's arguments for the job.
func driverArgs(j job) []string {
	args := []string{j.workload}
	add := func(name string, v any) { args = append(args, "--"+name, fmt.Sprint(v)) }
	p := j.params
	add("min", p.Min)
	add("max", p.Max)
	add("ws", p.WS)
	add("iters", p.Iters)
	add("threads", p.Threads)
	add("seed", p.Seed)
	return args
}

// sameFile tells whether malloc, which came from the file from, is that of the
// library that was preloaded. The dynamic linker may have found it by name.
func sameFile(from, library string) bool {
	return filepath.Base(from) == filepath.Base(library)
}

// explainAbsent says of the peers how they can be had, and that what passes
// for glibc is another libc.
func explainAbsent(contestants []*contestant) {
	for _, c := range contestants {
		i := slices.IndexFunc(peers, func(p peer) bool { return p.name == c.name })
		if i < 0 {
			continue
		}
		if strings.HasPrefix(c.absent, "LD_PRELOAD") && c.preload == peers[i].library {
			c.absent = fmt.Sprintf("the dynamic linker does not find %s (Debian: %s; bench/native/setup.sh installs it)", c.preload, peers[i].debian)
		}
		if c.preload == "" && len(c.runs) > 0 && !strings.HasPrefix(c.runs[0].Version, c.name) {
			c.absent = "the C library here is not " + c.name
		}
	}
}

// ratioRow is one peer's time over that of one hakmem interface.
type ratioRow struct {
	Hakmem string  `json:"hakmem"`
	Peer   string  `json:"peer"`
	Raw    float64 `json:"raw"`
	Net    float64 `json:"net"` // 0 if a loop was no slower than its empty one
	// Low and High are the raw ratio in hakmem's worst and best code layout;
	// equal to Raw where there is but one.
	Low  float64 `json:"raw_worst_layout"`
	High float64 `json:"raw_best_layout"`
}

func makeRatios(report bench.Report) []ratioRow {
	rows := []ratioRow{}
	for _, h := range report.Results {
		if !isHakmem(h.Allocator) {
			continue
		}
		slowest, fastest := h.NsPerOp, h.NsPerOp
		for _, t := range bench.LayoutTimes(h.Runs) {
			slowest, fastest = max(slowest, t), min(fastest, t)
		}
		for _, p := range report.Results {
			if isHakmem(p.Allocator) {
				continue
			}
			row := ratioRow{Hakmem: h.Allocator, Peer: p.Allocator, Raw: p.NsPerOp / h.NsPerOp, Low: p.NsPerOp / slowest, High: p.NsPerOp / fastest}
			if p.NetNsPerOp > 0 && h.NetNsPerOp > 0 {
				row.Net = p.NetNsPerOp / h.NetNsPerOp
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func printRatios(out io.Writer, rows []ratioRow) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprint(out, "\npeer's time / hakmem's time (above 1: hakmem is faster)\n")
	w := newTable(out)
	fmt.Fprint(w, "hakmem\tpeer\traw\tnet\traw, worst to best layout\n")
	for _, r := range rows {
		layouts := "-"
		if r.Low != r.High {
			layouts = fmt.Sprintf("%.3f to %.3f", r.Low, r.High)
		}
		net := "n/a"
		if r.Net > 0 {
			net = fmt.Sprintf("%.3f", r.Net)
		}
		fmt.Fprintf(w, "%s\t%s\t%.3f\t%s\t%s\n", r.Hakmem, r.Peer, r.Raw, net, layouts)
	}
	return w.Flush()
}

// onLinux says why there is no C side elsewhere.
func onLinux() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the C side needs Linux's LD_PRELOAD and /proc; this is %s", runtime.GOOS)
	}
	return nil
}
