package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/report"
)

func reportVerb() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "make one HTML page with charts from results",
		ArgsUsage: "RESULT.json...",
		Description: "A result is what `bench --json` or `compare --json` printed, or what `tune eval --out` wrote,\n" +
			"which has a page of its own. The page holds all of the results and needs no other file, and no\n" +
			"network.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "into", TakesFile: true, Usage: "instead of a page, put tables into the Markdown document `FILE`, between its two marks"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "report.html", TakesFile: true, Usage: "write the page to `FILE`; - is standard output"},
		},
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if !c.Args().Present() {
				return usagef("no result file given; name one or more that `hakmem bench --json`, `hakmem compare --json` or `hakmem tune eval --out` wrote")
			}
			results, output := c.Args().Slice(), c.String("output")
			if c.IsSet("into") {
				if c.IsSet("output") {
					return usagef("--into %q and --output %q: use one of them", c.String("into"), output)
				}
				return tablesInto(c.String("into"), results)
			}
			if err := checkOutput(output, results); err != nil {
				return err
			}
			sources, err := report.Load(results...)
			if err != nil {
				return err
			}
			return writeOutput(c, output, func(w io.Writer) error { return report.Write(w, sources) })
		},
	}
}

// tablesInto replaces the tables in a Markdown document.
func tablesInto(name string, results []string) error {
	switch info, err := os.Stat(name); {
	case name == "":
		return usagef("--into %q: name a Markdown document", name)
	case err != nil:
		return fmt.Errorf("--into: %w", err)
	case !info.Mode().IsRegular():
		return usagef("--into %q is not a regular file; name a Markdown document", name)
	}
	sources, err := report.Load(results...)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if text, err = report.Into(text, sources); err != nil {
		return fmt.Errorf("--into %s: %w", name, err)
	}
	return writeFile(name, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// checkOutput refuses an output that writeFile, which replaces a file by a new one, would destroy.
func checkOutput(output string, results []string) error {
	switch info, err := os.Lstat(output); {
	case output == "-":
	case output == "":
		return usagef("--output %q: name a file, or - for standard output", output)
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return usagef("--output %q is not a regular file; name another file, or - for standard output", output)
	case inputOf(info, results) != "":
		return usagef("--output %q is one of the results; name another file", output)
	}
	return nil
}
