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
		Name: "env", Usage: "print the HAKMEM_* settings, the modes, and what is wrong with the environment",
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
	settings := policy.All()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SETTING\tNOW\tDEFAULT\tSINCE\tVALUES\tMEANING")
	for i := range settings {
		g := &settings[i]
		note := ""
		if g.Alias != "" {
			note = " (alias " + g.Alias + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s%s\n", g.Name, g.Value(now), g.Default, g.Since, values(g), g.Meaning, note)
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

// checkSettings refuses to measure hakmem while the environment has settings that are not in force. A
// misspelled setting would be measured as its default.
func checkSettings() error {
	if errs := policy.Errors(); len(errs) > 0 {
		return usagef("%w; `hakmem env` lists the settings", errors.Join(errs...))
	}
	return nil
}

// values says which values a setting accepts.
func values(g *policy.Setting) string {
	switch g.Kind {
	case policy.Switch:
		return "0|1|off|on"
	case policy.Text:
		return "a path"
	case policy.Rate:
		return "0|1|1/N"
	case policy.Decimal:
		return fmt.Sprintf("%g..%g", float64(g.Min)/1000, float64(g.Max)/1000)
	case policy.Choice:
		values := strings.Join(g.Choices, "|")
		if g.Also != nil {
			values += "|" + g.Also.Usage
		}
		return values
	default:
		return fmt.Sprintf("%d..%d", g.Min, g.Max)
	}
}

// modeEffect lists the settings whose defaults a mode changes.
func modeEffect(mode string) string {
	s, _ := policy.Build(func(name string) (string, bool) { return mode, name == "HAKMEM_MODE" })
	var parts []string
	settings := policy.All()
	for i := range settings {
		if g := &settings[i]; g.Name != "HAKMEM_MODE" && g.Value(s) != g.Default {
			parts = append(parts, g.Name+"="+g.Value(s))
		}
	}
	if len(parts) == 0 {
		return "the defaults"
	}
	return strings.Join(parts, " ")
}
