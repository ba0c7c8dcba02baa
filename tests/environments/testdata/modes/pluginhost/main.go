// Command pluginhost loads the plugin that its argument names, and shares blocks with it.
package main

import (
	"fmt"
	"os"
	"plugin"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/tests/environments/testdata/modes/work"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func run(path string) error {
	if err := work.Run(); err != nil {
		return err
	}
	p, err := plugin.Open(path)
	if err != nil {
		return err
	}
	run, err := p.Lookup("Run")
	if err != nil {
		return err
	}
	if err := run.(func() error)(); err != nil {
		return fmt.Errorf("in the plugin: %w", err)
	}
	create, err := p.Lookup("New")
	if err != nil {
		return err
	}
	block := create.(func() unsafe.Pointer)()
	var s hakmem.Stats
	if hakmem.ReadStats(&s); s.LiveBlocks != 1 {
		return fmt.Errorf("%d blocks are live, want the plugin's one", s.LiveBlocks)
	}
	hakmem.Free(block)
	return work.Run()
}
