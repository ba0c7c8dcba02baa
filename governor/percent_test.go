package governor

import (
	"runtime"
	"testing"

	"github.com/hakmem/hakmem"
)

// TestHeapPercent: the percent makes the heap fill its part, within bounds.
func TestHeapPercent(t *testing.T) {
	for _, c := range []struct {
		name               string
		live, other, limit uint64
		now, want          int
	}{
		{"half is free", 100 * mib, 0, 200 * mib, 100, 100},
		{"no room", 100 * mib, 0, 110 * mib, 100, 100},
		{"no room any more", 100 * mib, 0, 110 * mib, 700, 100},
		{"room", 100 * mib, 0, 500 * mib, 100, 399},
		{"other memory takes room", 100 * mib, 200 * mib, 500 * mib, 100, 199},
		{"much room", 100 * mib, 0, 5000 * mib, 100, 1000},
		{"nearly right", 100 * mib, 0, 500 * mib, 360, 360},
		{"nearly right, from above", 100 * mib, 0, 500 * mib, 440, 440},
		{"not right", 100 * mib, 0, 500 * mib, 350, 399},
		{"not right, from above", 100 * mib, 0, 500 * mib, 460, 399},
		{"nearly right, near the bound", 100 * mib, 0, 205 * mib, 110, 110},
		{"nothing alive", 0, 0, 24 * mib, 100, 499},
		{"other memory is more than the limit", 100 * mib, 900 * mib, 500 * mib, 100, 100},
	} {
		if got := heapPercent(goMemory{live: c.live, other: c.other}, c.limit, c.now); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// BenchmarkMapBeside replaces values of a map whose values are off the heap: 64 MiB of values of 1 KiB, so that
// Go's heap is small, and a request that makes 4 KiB of garbage for each. It reports collections for a million
// of them, without a governor and with one that has 512 MiB.
func BenchmarkMapBeside(b *testing.B) {
	const values = 64 << 10
	for _, governed := range []bool{false, true} {
		name := "alone"
		if governed {
			name = "governed"
		}
		b.Run(name, func(b *testing.B) {
			m := make(map[int][]byte, values)
			for i := range values {
				m[i] = hakmem.Alloc(1024)
			}
			defer func() {
				for _, v := range m {
					hakmem.FreeBytes(v)
				}
			}()
			if governed {
				g, err := Start(Options{Total: 512 * mib})
				if err != nil {
					b.Fatal(err)
				}
				defer g.Close()
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var garbage []byte
			i := 0
			for b.Loop() {
				garbage = make([]byte, 4096)
				garbage[0] = byte(i)
				k := i * 7919 % values
				hakmem.FreeBytes(m[k])
				m[k] = hakmem.Alloc(1024)
				i++
			}
			runtime.KeepAlive(garbage)
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.NumGC-before.NumGC)/float64(b.N)*1e6, "GCs/M")
			b.ReportMetric(float64(after.HeapSys)/mib, "heap-MiB")
		})
	}
}
