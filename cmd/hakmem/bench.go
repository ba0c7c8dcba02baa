package main

import (
	"context"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench"
)

func benchVerb() *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure hakmem and the allocators that a Go program can choose from",
		ArgsUsage: "random_mixed|tiny_hot",
		Description: "random_mixed: each operation frees a random slot, or fills it with a block of random size.\n" +
			"tiny_hot: batches of 100 blocks of 32 bytes, allocated and freed in reverse.\n\n" +
			"Each run is a process of its own, which inherits the environment: HAKMEM_* gates apply.\n" +
			"\"net\" is less the time of the same loop without an allocator. With more than one thread,\n" +
			"ops/s is the sum of all threads and ns/op its inverse.",
		Flags:        jobFlags(bench.Allocators()),
		OnUsageError: badFlags,
		Action: func(ctx context.Context, c *cli.Command) error {
			j, err := readJob(c, bench.Allocators())
			if err != nil {
				return err
			}
			program, err := self()
			if err != nil {
				return err
			}
			var contestants []*contestant
			for _, name := range append(j.alloc, bench.Empty) {
				contestants = append(contestants, &contestant{name: name, side: sideGo, commands: []command{goCommand(program, os.Environ(), j, name)}})
			}
			bar := newProgress(c.Root().ErrWriter, j.runs*len(contestants))
			err = interleave(ctx, j, contestants, bar)
			bar.close()
			if err != nil {
				return err
			}
			report := makeReport(j, contestants)
			if j.json {
				return printJSON(c.Root().Writer, report)
			}
			return printBench(c.Root().Writer, j, report)
		},
	}
}
