package main

// Programs translated from C to Go get their memory from modernc.org/memory, below modernc.org/libc.

// swapModerncMemory puts the adapter in its place.
func swapModerncMemory(dir string) error {
	if err := requireHakmem(dir); err != nil {
		return err
	}
	return replaceModule(dir, "modernc.org/memory", "adapters/moderncmemory")
}

// QuickJS, an engine for JavaScript, translated to Go.
var _ = register(program{
	name:    "quickjs",
	module:  "modernc.org/quickjs",
	version: "v0.27.0",
	tests:   []string{"."},
	prepare: swapModerncMemory,
})
