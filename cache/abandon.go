package cache

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/engine"
)

// abandoned counts the caches that were dropped without Close.
var abandoned atomic.Uint64

var reportFirst sync.Once

// Abandoned returns how many Caches became unreachable without Close since the program started. Their memory
// was given back. Any goroutine may call it.
func Abandoned() uint64 { return abandoned.Load() }

// dropped is what the cleanup of a Cache needs to know. It has no reference to the Cache.
type dropped struct {
	core *core
	by   string // who called New
}

// caller names the function that called New, which calls this.
func caller() string {
	pc, file, line, ok := runtime.Caller(2)
	if !ok {
		return "a function that is not known"
	}
	return fmt.Sprintf("%s (%s:%d)", runtime.FuncForPC(pc).Name(), file, line)
}

// abandon gives back a cache that was dropped. It runs on a goroutine of the runtime.
func abandon(d dropped) {
	was := d.core.stats()
	d.core.onEvict = nil // nobody could recover what it panics with here
	if err := d.core.free(); err != nil {
		engine.Survive(err)
	}
	reportFirst.Do(func() {
		engine.Survive(fmt.Errorf("cache: a Cache of %d bytes in %d entries, made by %s, was dropped without Close: its memory was freed; Close each Cache (cache.Abandoned counts them, this is the first)", was.Bytes, was.Entries, d.by))
	})
	abandoned.Add(1)
}

// free closes the cache, and returns what that panicked with, such as a misuse that hakmem came upon.
func (c *core) free() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("cache: freeing a Cache that was dropped: %v", v)
		}
	}()
	return c.close()
}
