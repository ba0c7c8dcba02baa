// Command clib is hakmem in a library for C programs, as an archive or as a shared object.
package main

import "C"

import (
	"fmt"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/tests/environments/testdata/modes/work"
)

// hakmem_work returns 0, or 1 after it has said what went wrong.
//
//export hakmem_work
func hakmem_work() C.int {
	if err := work.Run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// hakmem_blocks holds so many blocks until it is called with 0, and returns how many are live.
//
//export hakmem_blocks
func hakmem_blocks(n C.int) C.int {
	for range n {
		held = append(held, hakmem.Alloc(100))
	}
	if n == 0 {
		for _, b := range held {
			hakmem.FreeBytes(b)
		}
		held = nil
	}
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	return C.int(s.LiveBlocks)
}

var held [][]byte

func main() {}
