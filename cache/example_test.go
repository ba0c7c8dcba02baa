package cache_test

import (
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/hakmem/hakmem/cache"
	"github.com/hakmem/hakmem/governor"
)

func Example() {
	c, err := cache.New(cache.Options{MaxBytes: 64 << 20, TTL: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	if err := c.Set("greeting", []byte("hello")); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 0, 100)
	buf, found := c.GetInto(buf, "greeting") // copies, without an allocation
	fmt.Printf("%s %t\n", buf, found)
	c.View("greeting", func(value []byte) { // does not copy
		fmt.Println(len(value), "bytes")
	})
	fmt.Println(c.Contains("farewell"), c.Stats().HitRate())
	// Output:
	// hello true
	// 5 bytes
	// false 1
}

// Range shows all entries; the order is not specified.
func ExampleCache_Range() {
	c, err := cache.New(cache.Options{MaxBytes: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_ = c.Set("one", []byte("1"))
	_ = c.Set("two", []byte("22"))
	_ = c.Set("three", []byte("333"))

	var keys []string
	sum := 0
	for key, value := range c.Range {
		keys = append(keys, string(key)) // a copy: key is hakmem's memory
		sum += len(value)
	}
	slices.Sort(keys)
	fmt.Println(keys, sum)
	// Output: [one three two] 6
}

// A cache gives memory up when the process has too much.
func ExampleCache_Shrink() {
	c, err := cache.New(cache.Options{MaxBytes: 64 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	stop := governor.OnPressure(c.Shrink)
	defer stop()
}

// OnEvict sees each entry that leaves the cache.
func ExampleOptions_onEvict() {
	c, err := cache.New(cache.Options{MaxBytes: 1 << 20, OnEvict: func(key, value []byte, reason cache.Reason) {
		fmt.Printf("%s: %s, %v\n", key, value, reason)
	}})
	if err != nil {
		log.Fatal(err)
	}
	_ = c.Set("a", []byte("1"))
	_ = c.Set("a", []byte("2"))
	c.Delete("a")
	c.Close()
	// Output:
	// a: 1, replaced
	// a: 2, deleted
}
