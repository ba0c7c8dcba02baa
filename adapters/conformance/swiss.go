package main

// swiss is a hash map. Its default allocator is swapped; its tests have maps of integers.

var _ = register(program{
	name:    "swiss",
	module:  "github.com/cockroachdb/swiss",
	version: "v0.0.0-20260820225851-333444432258",
	tests:   []string{"."},
	prepare: swissAllocator,
})

func swissAllocator(dir string) error {
	if err := requireHakmem(dir, "adapters/swiss"); err != nil {
		return err
	}
	if err := edit(dir, "map.go", "\t\tallocator: defaultAllocator[K, V]{},\n", "\t\tallocator: onHakmem[K, V](),\n"); err != nil {
		return err
	}
	return writeFile(dir, "hakmem.go", `package swiss

import hakmemswiss "github.com/hakmem/hakmem/adapters/swiss"

func onHakmem[K comparable, V any]() Allocator[K, V] {
	return hakmemswiss.New[Group[K, V]](hakmemswiss.Options{})
}
`)
}
