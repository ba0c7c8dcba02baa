package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/internal/learn"
)

func policyVerb() *cli.Command {
	return &cli.Command{
		Name: "policy", Usage: "show, compare, merge and make policy files",
		Description: "A policy file holds what hakmem has learnt in a process: hakmem.ExportPolicy writes it, and\n" +
			"HAKMEM_POLICY=file lets another process begin with it.",
		Commands:     []*cli.Command{policyShowVerb(), policyDiffVerb(), policyMergeVerb(), policyExportVerb(), policyImportVerb()},
		OnUsageError: badFlags,
		Action:       needsVerb("show, diff, merge, export or import"),
	}
}

// readPolicies reads policy files.
func readPolicies(names []string) (list []learn.Snapshot, err error) {
	for _, name := range names {
		s, err := readPolicyFile(name, learn.ReadSnapshot)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// readPolicyFile reads a part of a policy file.
func readPolicyFile[T any](name string, read func(io.Reader) (T, error)) (part T, err error) {
	f, err := os.Open(name)
	if err != nil {
		return part, err
	}
	defer f.Close()
	if part, err = read(f); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return part, err
}

func policyShowVerb() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "say for how long memory is kept under a policy file, which block sizes were added, which factors were learnt, and the rules of sites", ArgsUsage: "FILE",
		Flags:        []cli.Flag{priceFlag()},
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() != 1 {
				return usagef("%d files given; name one policy file", c.Args().Len())
			}
			return printPolicies(c)
		},
	}
}

func policyDiffVerb() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "compare for how long memory is kept under policy files, which block sizes were added, which factors were learnt, and the rules of sites", ArgsUsage: "FILE FILE...",
		Flags:        []cli.Flag{priceFlag()},
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() < 2 {
				return usagef("%d files given; name two policy files or more", c.Args().Len())
			}
			return printPolicies(c)
		},
	}
}

func priceFlag() cli.Flag {
	return &cli.FloatFlag{Name: "price", Usage: "judge what was learnt by this price of memory, in CPU seconds for a GiB held for a second (default: that of the file)"}
}

// printPolicies prints the hold times of each band, the added block sizes, the factors and the rules of sites,
// a column for each file.
func printPolicies(c *cli.Command) error {
	names := c.Args().Slice()
	list, err := readPolicies(names)
	if err != nil {
		return err
	}
	if c.IsSet("price") {
		if err := checkPrice(c.Float("price")); err != nil {
			return err
		}
	}
	var holds [][]float64
	w := newTable(c.Root().Writer)
	for i, s := range list {
		costs := s.Costs
		if c.IsSet("price") {
			costs.Hold = c.Float("price") * policyPage / (1 << 30)
		}
		h, err := s.MeanHolds(costs)
		if err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		holds = append(holds, h)
		fmt.Fprintf(w, "%s:\t%.0f samples\t%s in use at most\tprice %.3g\tbreak-even %.2f s\n", names[i], s.Samples(), size(float64(s.Pages)*policyPage),
			costs.Hold*(1<<30)/policyPage, costs.BreakEven().Seconds())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	w = newTable(c.Root().Writer)
	fmt.Fprint(w, "part of the addresses\tmean hold time, s\n")
	for band := range learn.Bands {
		fmt.Fprintf(w, "%d/%d", band+1, learn.Bands)
		for _, h := range holds {
			fmt.Fprintf(w, "\t%.2f", h[band])
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := printSizes(newTable(c.Root().Writer), list); err != nil {
		return err
	}
	if err := printFactors(newTable(c.Root().Writer), list); err != nil {
		return err
	}
	return printRules(newTable(c.Root().Writer), list)
}

// rows are the rows of a table that has a column for each policy file. What a file does not have is a dash.
type rows[K cmp.Ordered] struct {
	files int
	cells map[K][]string
}

func (r *rows[K]) set(key K, file int, text string) {
	if r.cells == nil {
		r.cells = map[K][]string{}
	}
	if r.cells[key] == nil {
		r.cells[key] = slices.Repeat([]string{"-"}, r.files)
	}
	r.cells[key][file] = text
}

// print prints the rows by their keys, if there are any, below a head.
func (r *rows[K]) print(w *tabwriter.Writer, head string) error {
	if len(r.cells) == 0 {
		return nil
	}
	fmt.Fprint(w, head)
	for _, key := range slices.Sorted(maps.Keys(r.cells)) {
		fmt.Fprintf(w, "%v\t%s\n", key, strings.Join(r.cells[key], "\t"))
	}
	return w.Flush()
}

// printSizes prints which block sizes were added, if the files have any.
func printSizes(w *tabwriter.Writer, list []learn.Snapshot) error {
	sizes := rows[int]{files: len(list)}
	for i, s := range list {
		for _, b := range s.Sizes {
			text := "set"
			if b.Weight > 0 {
				text = fmt.Sprintf("%.0f samples", b.Weight)
			}
			sizes.set(b.Size, i, text)
		}
	}
	return sizes.print(w, "\nadded block size\tlearnt from\n")
}

// printFactors prints which factors are in force, if the files have any: of the hold times and the budget of
// caches those of the leading strategy.
func printFactors(w *tabwriter.Writer, list []learn.Snapshot) error {
	factors := rows[string]{files: len(list)}
	for i, s := range list {
		played := func(name string, f learn.FactorSnapshot) {
			factors.set(name, i, fmt.Sprintf("%g, %d windows", f.Factor(), f.Plays()))
		}
		if s.WMax != nil {
			played("W_MAX", s.WMax.FactorSnapshot)
		}
		for _, b := range s.Batches {
			played(learn.BatchNames[b.Kind], b.FactorSnapshot)
		}
		if s.Board != nil {
			leader, matches := s.Board.Leader(), s.Board.Matches()
			factors.set("hold times, by the board", i, fmt.Sprintf("%g, %d matches", leader.Hold, matches))
			factors.set("budget of caches, by the board", i, fmt.Sprintf("%g, %d matches", leader.Budget, matches))
		}
	}
	return factors.print(w, "\nfactor\tvalue, learnt from\n")
}

// printRules prints which sites' blocks live for long, and what is set for sites, if the files say it of any.
func printRules(w *tabwriter.Writer, list []learn.Snapshot) error {
	sites := rows[string]{files: len(list)}
	for i, s := range list {
		for _, r := range s.Sites {
			sites.set(r.Name, i, ruleText(r))
		}
	}
	return sites.print(w, "\nsite\trule\n")
}

// ruleText returns a rule as a cell of a table.
func ruleText(r learn.SiteRule) string {
	lane := "short"
	if r.Long {
		lane = "long"
	}
	switch {
	case r.NoLane:
		lane = "auto"
	case r.Samples == 0:
		lane += ", set"
	default:
		lane += fmt.Sprintf(", %.0f samples", r.Samples)
	}
	words := append([]string{lane}, r.Words()...)
	if r.TouchPlays > 0 {
		words = append(words, fmt.Sprintf("Touch %v, %d plays", r.LearntTouch, r.TouchPlays))
	}
	return strings.Join(words, ", ")
}

// policyPage is the size in bytes of the pages that the costs in a policy file are of.
const policyPage = 64 << 10

func policyMergeVerb() *cli.Command {
	return &cli.Command{
		Name: "merge", Usage: "make one policy file of several", ArgsUsage: "FILE FILE...",
		Description: "Each file counts by the number of samples in it. The costs are those of the first. What a program has\n" +
			"set for a site counts in any case; of two values that were set, the first. Of the block sizes that were added two\n" +
			"are left: those that a program has set, and then those that were learnt from the most samples. Factors and the\n" +
			"ratings of strategies count by the windows and matches that were played.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, TakesFile: true, Required: true, Usage: "write to `FILE`; - is standard output"},
		},
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			names := c.Args().Slice()
			if len(names) < 2 {
				return usagef("%d files given; name two policy files or more", len(names))
			}
			if info, err := os.Stat(c.String("output")); err == nil {
				if input := inputOf(info, names); input != "" {
					return usagef("--output %q is the input %q, which would be lost; name another file", c.String("output"), input)
				}
			}
			list, err := readPolicies(names)
			if err != nil {
				return err
			}
			merged := list[0]
			for _, s := range list[1:] {
				if merged, err = merged.Merge(s); err != nil {
					return err
				}
			}
			return writeOutput(c, c.String("output"), func(w io.Writer) error { return merged.Write(w, nil) })
		},
	}
}
