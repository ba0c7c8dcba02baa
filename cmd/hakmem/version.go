package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/loops"
)

func versionVerb() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version of hakmem and of Go", OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if err := noArguments(c); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.Root().Writer, "hakmem %s, %s %s/%s\n",
				loops.ModuleVersion("github.com/hakmem/hakmem"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
