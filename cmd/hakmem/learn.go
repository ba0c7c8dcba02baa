package main

import (
	"context"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/internal/learn"
)

func learnVerb() *cli.Command {
	return &cli.Command{
		Name: "learn", Usage: "say what a process has learnt and decided, by the policy file that it wrote",
		Description: "hakmem.ExportPolicy writes a policy file, and so does `hakmem policy export`. A merged file says only what\n" +
			"was learnt, and not how a process stood.",
		Commands: []*cli.Command{
			stateVerb("explain", "say in sentences what memory the process held and why, and what was decided lately", learn.State.Explain),
			stateVerb("board", "print how the strategies are rated", learn.State.WriteBoard),
		},
		OnUsageError: badFlags,
		Action:       needsVerb("explain or board"),
	}
}

// stateVerb returns a verb that prints something of the state in a policy file.
func stateVerb(name, usage string, print func(learn.State, io.Writer) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "FILE",
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() != 1 {
				return usagef("%d files given; name one policy file", c.Args().Len())
			}
			s, err := readPolicyFile(c.Args().First(), learn.ReadState)
			if err != nil {
				return err
			}
			return print(s, c.Root().Writer)
		},
	}
}
