package hakmemwazero_test

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	hakmemwazero "github.com/hakmem/hakmem/adapters/wazero"
)

// A module's memory grows from one page to three. The module has a function "grow" for that, which returns the former
// number of pages.
func Example() {
	ctx := experimental.WithMemoryAllocator(context.Background(), hakmemwazero.New(hakmemwazero.Options{}))
	runtime := wazero.NewRuntime(ctx)
	defer runtime.Close(ctx) // closes its modules, which gives their memories back

	module, err := runtime.Instantiate(ctx, binaryOf(1, 1, 16))
	if err != nil {
		fmt.Println(err)
		return
	}
	former, err := module.ExportedFunction("grow").Call(ctx, 2)
	fmt.Println(former, err)
	fmt.Println(module.Memory().Size(), "bytes")
	// Output:
	// [1] <nil>
	// 196608 bytes
}
