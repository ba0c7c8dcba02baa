package main

// wazero runs WebAssembly. Where its tests give a memory no allocator, it is swapped.

var _ = register(program{
	name:    "wazero",
	module:  "github.com/tetratelabs/wazero",
	version: "v1.12.0",
	tests:   []string{"./internal/wasm/...", "./internal/integration_test/engine/...", "./internal/integration_test/spectest/..."},
	prepare: wazeroMemory,
})

func wazeroMemory(dir string) error {
	if err := requireHakmem(dir, "adapters/wazero"); err != nil {
		return err
	}
	const begin = "\tvar expBuffer experimental.LinearMemory\n\tif allocator != nil {\n"
	if err := edit(dir, "internal/wasm/memory.go", begin, "\tif allocator == nil {\n\t\tallocator = onHakmem\n\t}\n"+begin); err != nil {
		return err
	}
	return writeFile(dir, "internal/wasm/hakmem.go", `package wasm

import hakmemwazero "github.com/hakmem/hakmem/adapters/wazero"

var onHakmem = hakmemwazero.New(hakmemwazero.Options{})
`)
}
