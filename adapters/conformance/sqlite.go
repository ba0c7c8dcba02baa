package main

// SQLite, translated to Go. Its memory is that of modernc.org/memory, below modernc.org/libc; its page
// cache can be registered.

const (
	sqliteModule  = "modernc.org/sqlite"
	sqliteVersion = "v1.62.0"
)

var _ = register(program{
	name:    "sqlite-memory",
	module:  sqliteModule,
	version: sqliteVersion,
	tests:   []string{"."},
	prepare: sqliteMemory,
})

// sqliteMemory puts the adapter in the place of modernc.org/memory.
func sqliteMemory(dir string) error {
	if err := requireHakmem(dir); err != nil {
		return err
	}
	return replaceModule(dir, "modernc.org/memory", "adapters/moderncmemory")
}
