package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"
)

// policyText is true of a policy file of any version.
var policyText = contents{"a policy file", "{\n \"format\": \"hakmem policy\""}

func policyExportVerb() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "run a program that uses hakmem and write what it learns", ArgsUsage: "-- PROGRAM [ARGUMENT...]",
		Description: "The program runs with HAKMEM_POLICY_EXPORT set to FILE. It writes FILE ten seconds after its start and\n" +
			"every ten seconds from then on, so what it learns in its last seconds is not in FILE. A FILE that exists is\n" +
			"replaced only if it is a policy file or empty. Child processes inherit HAKMEM_POLICY_EXPORT; if several use\n" +
			"hakmem, FILE is that of the last one that wrote it. The exit status is that of the program, or 1 if the program\n" +
			"wrote nothing.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, TakesFile: true, Required: true, Usage: "let the program write to `FILE`"},
		},
		OnUsageError: badFlags,
		StopOnNthArg: stopOnNth(1),
		Action: func(ctx context.Context, c *cli.Command) error {
			args, program, err := programLine(c.Args().Slice(), "hakmem policy export -o FILE -- PROGRAM ARGUMENT...")
			if err != nil {
				return err
			}
			output := c.String("output")
			if err := checkReplaced(output, append([]string{program}, args[1:]...), policyText); err != nil {
				return err
			}
			file, err := filepath.Abs(output) // absolute, because the program may change its directory
			if err != nil {
				return err
			}
			d, err := newDraft(file) // so that a directory that cannot be written does not cost the program's run
			if err != nil {
				return fmt.Errorf("--output %q: %w", output, err)
			}
			d.drop()
			file = d.name // hakmem would replace a link by a file
			before, err := os.Stat(file)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			started, ran := runProgram(ctx, c, args, "HAKMEM_POLICY_EXPORT="+file)
			if !started {
				return ran
			}
			after, err := os.Stat(file)
			switch {
			case errors.Is(err, fs.ErrNotExist), err == nil && before != nil && os.SameFile(before, after) && before.ModTime().Equal(after.ModTime()):
				return passedOn(errors.Join(ran, fmt.Errorf("%s did not write %s: a program that uses hakmem first does so 10 s after its start", args[0], file)))
			case err != nil:
				return passedOn(errors.Join(ran, err))
			}
			fmt.Fprintf(c.Root().ErrWriter, "hakmem: what %s learnt is in %s\n", args[0], file)
			return passedOn(ran)
		},
	}
}

func policyImportVerb() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "run a program that uses hakmem and begins with what a policy file says", ArgsUsage: "FILE -- PROGRAM [ARGUMENT...]",
		Description: "The program runs with HAKMEM_POLICY set to FILE, after a check that FILE can be read. The exit status is\n" +
			"that of the program.",
		OnUsageError: badFlags,
		StopOnNthArg: stopOnNth(1),
		Action: func(ctx context.Context, c *cli.Command) error {
			const use = "hakmem policy import FILE -- PROGRAM ARGUMENT..."
			name := c.Args().First()
			if name == "" {
				return usagef("no policy file given; use `%s`", use)
			}
			args, _, err := programLine(c.Args().Tail(), use)
			if err != nil {
				return err
			}
			if _, err := readPolicies([]string{name}); err != nil {
				return err
			}
			file, err := filepath.Abs(name) // absolute, because the program may change its directory
			if err != nil {
				return err
			}
			_, ran := runProgram(ctx, c, args, "HAKMEM_POLICY="+file)
			return passedOn(ran)
		},
	}
}
