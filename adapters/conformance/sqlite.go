package main

// SQLite, translated to Go. Its memory is that of modernc.org/memory, below modernc.org/libc. Its page cache
// can be registered: with the tag pcachepool the suite does that, with a cache that comes with the module.

const (
	sqliteModule  = "modernc.org/sqlite"
	sqliteVersion = "v1.62.0"

	// sqliteShort leaves out the two subtests whose names end in "expiring". Each goes on for 200 s, because
	// it tries 1000 times for 200 ms. (Names of up to 5 bytes cannot end so; -run has no "not".)
	sqliteShort = "./(^.{0,5}$|([^g]|[^n]g|[^i]ng|[^r]ing|[^i]ring|[^p]iring)$)"
)

// sqliteRaceSlow are the tests that take longer under the race detector than all others together.
var sqliteRaceSlow = []reason{
	{"^TestIssue118$", "it opens 10,000 databases"},
	{"^TestSingleConn$", "100 goroutines insert 1,000,000 rows"},
}

var _ = register(program{
	name:    "sqlite-memory",
	module:  sqliteModule,
	version: sqliteVersion,
	tests:   []string{"."},
	prepare: swapModerncMemory,
	short:   sqliteShort,

	raceSlow: sqliteRaceSlow,
})

var _ = register(program{
	name:    "sqlite-pagecache",
	module:  sqliteModule,
	version: sqliteVersion,
	tests:   []string{"."},
	prepare: sqlitePageCache,
	env:     []string{"GOFLAGS=-mod=mod -tags=pcachepool"},
	short:   sqliteShort,

	raceSlow: sqliteRaceSlow,
})

// sqlitePageCache registers the adapter's page cache where the suite registers another. The budget is small,
// so that connections take pages from each other.
func sqlitePageCache(dir string) error {
	if err := requireHakmem(dir, "adapters/sqlite"); err != nil {
		return err
	}
	for _, e := range []struct{ before, after string }{
		{"\t\"modernc.org/sqlite\"\n", "\thakmemsqlite \"github.com/hakmem/hakmem/adapters/sqlite\"\n\t\"modernc.org/sqlite\"\n"},
		{"func init() {\n\tsqlite.MustRegisterPageCache(pcache.New())\n", "func init() {\n\tsqlite.MustRegisterPageCache(hakmemsqlite.New(hakmemsqlite.Options{Bytes: 4 << 20}))\n"},
	} {
		if err := edit(dir, "pcachepool_test.go", e.before, e.after); err != nil {
			return err
		}
	}
	return nil
}
