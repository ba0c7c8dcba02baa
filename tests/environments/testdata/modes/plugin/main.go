// Command plugin is hakmem in a plugin of a program that uses hakmem too.
package main

import (
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/tests/environments/testdata/modes/work"
)

// Run works inside the plugin.
func Run() error { return work.Run() }

// New returns a block that the program frees.
func New() unsafe.Pointer { return hakmem.Malloc(1000) }

func main() {}
