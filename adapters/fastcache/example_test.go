package fastcache_test

import (
	"fmt"

	"github.com/VictoriaMetrics/fastcache"
)

func Example() {
	cache := fastcache.New(64 << 20)
	defer cache.Close()

	cache.Set([]byte("colour"), []byte("green"))
	fmt.Printf("%s\n", cache.Get(nil, []byte("colour")))

	cache.SetBig([]byte("page"), make([]byte, 1_000_000))
	fmt.Println(len(cache.GetBig(nil, []byte("page"))), "bytes")

	cache.Reset() // all of its memory goes back
	var stats fastcache.Stats
	cache.UpdateStats(&stats)
	fmt.Println(stats.EntriesCount, "entries,", stats.BytesSize+stats.IndexBytesSize, "bytes")
	// Output:
	// green
	// 1000000 bytes
	// 0 entries, 0 bytes
}
