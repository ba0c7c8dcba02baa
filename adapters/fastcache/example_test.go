// The tests are in the package itself and do not import it by its path. Otherwise the package would have two paths
// in a program that puts it in the place of fastcache, which go mod tidy refuses.

package fastcache

import "fmt"

func Example() {
	cache := New(64 << 20)
	defer cache.Close()

	cache.Set([]byte("colour"), []byte("green"))
	fmt.Printf("%s\n", cache.Get(nil, []byte("colour")))

	cache.SetBig([]byte("page"), make([]byte, 1_000_000))
	fmt.Println(len(cache.GetBig(nil, []byte("page"))), "bytes")

	cache.Reset() // all of its memory goes back
	var stats Stats
	cache.UpdateStats(&stats)
	fmt.Println(stats.EntriesCount, "entries,", stats.BytesSize+stats.IndexBytesSize, "bytes")
	// Output:
	// green
	// 1000000 bytes
	// 0 entries, 0 bytes
}
