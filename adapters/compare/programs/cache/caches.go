package main

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/VictoriaMetrics/fastcache"
	"github.com/allegro/bigcache/v3"
	"github.com/coocood/freecache"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/hakmem/hakmem/cache"
	"github.com/maypok86/otter/v2"
)

// contender is a cache, as the load uses it. Any goroutine may call its methods. They do not keep their
// arguments.
type contender interface {
	get(dst []byte, key string) (value []byte, found bool) // appends to dst
	set(key string, value []byte)
	close()
}

// maker makes a contender that may have so many bytes, and in which about so many entries are expected.
type maker struct {
	name string
	make func(bytes int64, entries int) (contender, error)
}

var makers = []maker{
	{"hakmem/cache", newHakmem},
	{"ristretto", newRistretto},
	{"otter", newOtter},
	{"bigcache", newBigcache},
	{"freecache", newFreecache},
	{"fastcache", newFastcache},
}

type onHakmem struct{ c *cache.Cache }

func newHakmem(bytes int64, _ int) (contender, error) {
	c, err := cache.New(cache.Options{MaxBytes: bytes})
	return onHakmem{c}, err
}

func (h onHakmem) get(dst []byte, key string) ([]byte, bool) { return h.c.GetInto(dst, key) }
func (h onHakmem) set(key string, value []byte)              { _ = h.c.Set(key, value) }
func (h onHakmem) close()                                    { _ = h.c.Close() }

// onRistretto has ten counters for each entry and buffers of 64, as its documentation says.
type onRistretto struct {
	c *ristretto.Cache[string, []byte]
}

func newRistretto(bytes int64, entries int) (contender, error) {
	c, err := ristretto.NewCache(&ristretto.Config[string, []byte]{NumCounters: 10 * int64(entries), MaxCost: bytes, BufferItems: 64})
	return onRistretto{c}, err
}

func (r onRistretto) get(dst []byte, key string) ([]byte, bool) {
	v, found := r.c.Get(key)
	return append(dst, v...), found
}

func (r onRistretto) set(key string, value []byte) {
	r.c.Set(strings.Clone(key), bytes.Clone(value), int64(len(key)+len(value)))
}

func (r onRistretto) close() { r.c.Close() }

type onOtter struct{ c *otter.Cache[string, []byte] }

func newOtter(bytes int64, entries int) (contender, error) {
	c, err := otter.New(&otter.Options[string, []byte]{
		MaximumWeight:   uint64(bytes),
		Weigher:         func(key string, value []byte) uint32 { return uint32(len(key) + len(value)) },
		InitialCapacity: entries,
	})
	return onOtter{c}, err
}

func (o onOtter) get(dst []byte, key string) ([]byte, bool) {
	v, found := o.c.GetIfPresent(key)
	return append(dst, v...), found
}

func (o onOtter) set(key string, value []byte) { o.c.Set(strings.Clone(key), bytes.Clone(value)) }
func (o onOtter) close()                       { o.c.StopAllGoroutines() }

type onBigcache struct{ c *bigcache.BigCache }

func newBigcache(bytes int64, entries int) (contender, error) {
	config := bigcache.DefaultConfig(24 * time.Hour) // longer than the load
	config.CleanWindow = 0
	config.Verbose = false
	config.Shards = 256
	config.HardMaxCacheSize = int(bytes >> 20)
	config.MaxEntriesInWindow = entries
	config.MaxEntrySize = int(bytes) / entries
	c, err := bigcache.New(context.Background(), config)
	return onBigcache{c}, err
}

func (b onBigcache) get(dst []byte, key string) ([]byte, bool) {
	v, err := b.c.Get(key)
	return append(dst, v...), err == nil
}

func (b onBigcache) set(key string, value []byte) { _ = b.c.Set(key, value) }
func (b onBigcache) close()                       { _ = b.c.Close() }

type onFreecache struct{ c *freecache.Cache }

func newFreecache(bytes int64, _ int) (contender, error) {
	return onFreecache{freecache.NewCache(int(bytes))}, nil
}

func (f onFreecache) get(dst []byte, key string) (value []byte, found bool) {
	err := f.c.GetFn([]byte(key), func(v []byte) error {
		value = append(dst, v...)
		return nil
	})
	if err != nil {
		return dst, false
	}
	return value, true
}

func (f onFreecache) set(key string, value []byte) { _ = f.c.Set([]byte(key), value, 0) }
func (f onFreecache) close()                       { f.c.Clear() }

type onFastcache struct{ c *fastcache.Cache }

func newFastcache(bytes int64, _ int) (contender, error) {
	return onFastcache{fastcache.New(int(bytes))}, nil
}

func (f onFastcache) get(dst []byte, key string) ([]byte, bool) { return f.c.HasGet(dst, []byte(key)) }
func (f onFastcache) set(key string, value []byte)              { f.c.Set([]byte(key), value) }
func (f onFastcache) close()                                    { f.c.Reset() }
