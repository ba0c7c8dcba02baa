package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/result"
)

// A placement is a build of this program in which code and data have addresses of their own. The
// addresses alone move times by some percent, now and then by a factor of two, and no single placement
// is the true one.

func placementsFlag() cli.Flag {
	return &cli.StringFlag{Name: "placements",
		Usage: "build the Go side in `N` placements, which differ by where code and data lie, make --runs runs of each, and report the median over them, the worst and the best (needs the go command and the source)"}
}

// readPlacements returns the number of placements, 0 if this program itself is to run.
func readPlacements(c *cli.Command) (int, error) {
	if !c.IsSet("placements") {
		return 0, nil
	}
	n, err := readNumber(c, "placements", maxRuns)
	return int(n), err
}

// goPrograms returns the builds of this program that are to be measured: this one, or so many
// placements. The returned function removes what was built.
func goPrograms(ctx context.Context, placements int, bar *progress) (programs []string, clean func(), err error) {
	if placements > 0 {
		return buildPlacements(ctx, placements, bar)
	}
	program, err := self()
	return []string{program}, func() {}, err
}

// buildPlacements builds this program n times from source.
func buildPlacements(ctx context.Context, n int, bar *progress) (programs []string, clean func(), err error) {
	dir, err := os.MkdirTemp("", "hakmem-placements-")
	if err != nil {
		return nil, func() {}, err
	}
	clean = func() { os.RemoveAll(dir) }
	defer bar.close()
	for k := 1; k <= n; k++ {
		bar.doing("building placement " + strconv.Itoa(k))
		path := filepath.Join(dir, fmt.Sprintf("hakmem-%d", k))
		if err := buildSelf(ctx, path, nil, append(sameBuild(), placementFlags(k)...)...); err != nil {
			clean()
			return nil, func() {}, fmt.Errorf("--placements: building placement %d: %w", k, err)
		}
		programs = append(programs, path)
		bar.step()
	}
	return programs, clean, nil
}

// paddingStep is how much further the data lies in the next placement, modulo dataRange. It is 25
// cache lines of 64 bytes. 25 has no divisor in common with the 64 lines of dataRange, so 64
// placements have all of its lines. It is near the golden section of 64, so fewer of them lie well
// apart (Knuth, The Art of Computer Programming, 6.4).
const paddingStep = 25 * 64

// dataRange is an OS page of 4 KiB. By the address within it, the first cache chooses the set of a
// line, and processors guess whether a load meets a store that is not done yet.
const dataRange = 4096

// padding is the number of bytes by which the data of placement k, counted from 1, is moved.
func padding(k int) int { return k * paddingStep % dataRange }

// placementFlags are the flags of go build for placement k, counted from 1.
//
// The linker puts the functions into a random order that k chooses. The value for a variable that does
// not exist has no effect in the program, but the go command records all flags in it, at the beginning
// of the data segment, and what follows them moves by the value's length. With -trimpath it would not
// record them.
func placementFlags(k int) []string {
	return []string{"-trimpath=false", fmt.Sprintf("-ldflags=-randlayout=%d -X=main.padding=%s", k, strings.Repeat("a", padding(k)))}
}

// printPlacements prints each allocator's time in each placement. It prints nothing where only one was
// measured.
func printPlacements(out io.Writer, report result.Report) error {
	most := 0
	for _, r := range report.Results {
		most = max(most, len(r.Placements))
	}
	if most == 0 {
		return nil
	}
	w := newTable(out)
	fmt.Fprint(w, "\nns/op by placement\tmedian\tbest\tworst\tworst / best")
	for k := range most {
		fmt.Fprintf(w, "\t%d", k+1)
	}
	fmt.Fprintln(w)
	for _, r := range report.Results {
		if len(r.Placements) == 0 {
			continue
		}
		best, worst := slices.Min(r.Placements), slices.Max(r.Placements)
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.3f\t%s", r.Allocator, r.NsPerOp, best, worst, figure(result.Over(worst, best), 2))
		for _, t := range r.Placements {
			fmt.Fprintf(w, "\t%.3f", t)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
