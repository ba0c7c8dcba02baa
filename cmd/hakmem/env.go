package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/policy"
)

func envVerb() *cli.Command {
	return &cli.Command{
		Name: "env", Usage: "print the HAKMEM_* gates, the modes, and what is wrong with the environment",
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return printEnv(c.Root().Writer)
		},
	}
}

func printEnv(out io.Writer) error {
	now := policy.Current()
	if now.Trace == "" { // else this call would replace the trace
		hakmem.Free(hakmem.Malloc(1)) // so that Err also reports what goes wrong at the first allocation
	}
	gates := policy.Gates()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GATE\tNOW\tDEFAULT\tSINCE\tVALUES\tMEANING")
	for i := range gates {
		g := &gates[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", g.Name, g.Value(now), g.Default, g.Since, values(g), g.Meaning)
	}
	fmt.Fprintln(w, "\nMODE\tWHAT IT CHANGES")
	for _, mode := range policy.Modes {
		fmt.Fprintf(w, "%s\t%s\n", mode, modeEffect(mode))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := hakmem.Err(); err != nil {
		fmt.Fprintln(out, "\nPROBLEMS (survived; the default or the mode's value is in force)")
		for line := range strings.Lines(err.Error() + "\n") {
			fmt.Fprint(out, "  ", line)
		}
	}
	return nil
}

// checkGates refuses to measure hakmem while the environment has gates that are not in force. A
// misspelled gate would be measured as its default.
func checkGates() error {
	if errs := policy.Errors(); len(errs) > 0 {
		return usagef("%w; `hakmem env` lists the gates", errors.Join(errs...))
	}
	return nil
}

// values says which values a gate accepts.
func values(g *policy.Gate) string {
	switch g.Kind {
	case policy.Switch:
		return "0|1|off|on"
	case policy.Text:
		return "a path"
	case policy.Rate:
		return "0|1|1/N"
	case policy.Choice:
		return strings.Join(g.Choices, "|")
	default:
		return fmt.Sprintf("%d..%d", g.Min, g.Max)
	}
}

// modeEffect lists the gates whose defaults a mode changes, and what the mode does not do yet.
func modeEffect(mode string) string {
	s, _ := policy.Build(func(name string) (string, bool) { return mode, name == "HAKMEM_MODE" })
	var parts []string
	gates := policy.Gates()
	for i := range gates {
		if g := &gates[i]; g.Kind != policy.Choice && g.Value(s) != g.Default {
			parts = append(parts, g.Name+"="+g.Value(s))
		}
	}
	if note := policy.ModeNote(mode); note != "" {
		parts = append(parts, note)
	}
	if len(parts) == 0 {
		return "the defaults"
	}
	return strings.Join(parts, " ")
}
