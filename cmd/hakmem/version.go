package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/hakmem/hakmem/bench/loops"
	"github.com/urfave/cli/v3"
)

func versionVerb() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the versions of hakmem, of its modules that measure it, and of Go", OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if err := noArguments(c); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.Root().Writer, "hakmem %s, bench %s, cmd/hakmem %s, %s %s/%s\n",
				loops.ModuleVersion("github.com/hakmem/hakmem"), loops.ModuleVersion("github.com/hakmem/hakmem/bench"),
				loops.ModuleVersion(commandModule), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
