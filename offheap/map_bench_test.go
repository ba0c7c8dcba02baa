package offheap_test

import (
	"flag"
	"fmt"
	"runtime"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/offheap"
)

var tenMillion = flag.Bool("tenmillion", false, "benchmarks of maps with 10^7 entries, too")

// sizes are the numbers of entries of the maps that the benchmarks use: one that is in the cache of the
// processor, one that is not, and one in which the collector's work shows.
func sizes() []int {
	if *tenMillion {
		return []int{1e3, 1e6, 1e7}
	}
	return []int{1e3, 1e6}
}

// scatter spreads numbers over all of uint64, each to another one.
func scatter(i int) uint64 { return uint64(i) * 0x9E3779B97F4A7C15 }

var sink uint64

func filled(n int) *offheap.Map[uint64, uint64] {
	m := offheap.NewMap[uint64, uint64]()
	for i := range n {
		m.Put(scatter(i), uint64(i))
	}
	return m
}

func BenchmarkMap(b *testing.B) {
	for _, n := range sizes() {
		name := func(what, which string) string { return fmt.Sprintf("%s/%s/%d", what, which, n) }
		m, g := filled(n), make(map[uint64]uint64)
		for i := range n {
			g[scatter(i)] = uint64(i)
		}
		lookup := func(what string, from int) {
			// The order is that of other numbers, so that it is not the order of the inserts.
			at := func(i int) uint64 { return scatter(from + int(uint64(i)*7919%uint64(n))) }
			b.Run(name(what, "hakmem"), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					v, _ := m.Get(at(i))
					sink += v
				}
			})
			b.Run(name(what, "go"), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					sink += g[at(i)]
				}
			})
		}
		lookup("hit", 0)
		lookup("miss", n)
		b.Run(name("all", "hakmem"), func(b *testing.B) {
			for range b.N {
				for _, v := range m.All() {
					sink += v
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
		b.Run(name("all", "go"), func(b *testing.B) {
			for range b.N {
				for _, v := range g {
					sink += v
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
		m.Close()
		g = nil
		runtime.GC()
		b.Run(name("insert", "hakmem"), func(b *testing.B) {
			b.ReportAllocs()
			var before, after hakmem.Stats
			for range b.N {
				b.StopTimer()
				hakmem.ReadStats(&before)
				b.StartTimer()
				m := filled(n)
				b.StopTimer()
				hakmem.ReadStats(&after)
				b.StartTimer()
				m.Close()
			}
			b.ReportMetric(float64(after.Live-before.Live)/float64(n), "bytes/entry")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
		b.Run(name("insert", "go"), func(b *testing.B) {
			b.ReportAllocs()
			var before, after runtime.MemStats
			for range b.N {
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&before)
				b.StartTimer()
				g := make(map[uint64]uint64)
				for i := range n {
					g[scatter(i)] = uint64(i)
				}
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(g)
				b.StartTimer()
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "bytes/entry")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}
