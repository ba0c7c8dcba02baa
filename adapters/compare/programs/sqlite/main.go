// Command sqlite is the comparisons "sqlite" and "sqlite-pagecache". The command compare builds it twice: as it is, and
// with hakmem's adapter in the place of modernc.org/memory.
package main

import (
	"fmt"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

func main() { measure.Main(measure.Program{Prepare: prepareReaders, Start: begin}) }

// names of the variants
const (
	today     = "SQLite's own"
	onHakmem  = "adapters/moderncmemory"
	reference = "modernc.org/sqlite/pcache"
	ourCache  = "adapters/sqlite"
	both      = "adapters/sqlite and moderncmemory"
)

func begin(s measure.Setting) (measure.Job, error) {
	want := s.Variant == onHakmem || s.Variant == both
	if is := measure.Replaced("modernc.org/memory"); is != want {
		return measure.Job{}, fmt.Errorf("variant %q: this program was built with modernc.org/memory replaced: %t, want %t", s.Variant, is, want)
	}
	switch s.Comparison {
	case "sqlite":
		return beginMemory(s)
	case "sqlite-pagecache":
		return beginReaders(s)
	}
	return measure.Job{}, fmt.Errorf("this program has no comparison %q", s.Comparison)
}
