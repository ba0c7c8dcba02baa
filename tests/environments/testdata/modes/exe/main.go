// Command exe uses hakmem as an ordinary program does.
package main

import (
	"fmt"
	"os"

	"github.com/hakmem/hakmem/tests/environments/testdata/modes/work"
)

func main() {
	if err := work.Run(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ok")
}
