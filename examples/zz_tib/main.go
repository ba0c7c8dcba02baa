package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
)

func main() {
	_ = debug.SetGCPercent
	var all []unsafe.Pointer
	start := time.Now()
	const n = 4 << 30
	var worst time.Duration
	for {
		t := time.Now()
		p := hakmem.Malloc(n)
		if d := time.Since(t); d > worst { worst = d }
		if p == nil {
			break
		}
		*(*byte)(p) = 1
		*(*byte)(unsafe.Add(p, n-1)) = 1
		all = append(all, p)
		if len(all) > 9*1024/4 { break }
	}
	fmt.Println(len(all), "x 4 GiB", time.Since(start), "worst", worst)
	fmt.Println(hakmem.Err())
	var small []unsafe.Pointer
	t := time.Now()
	for range 1000 { p := hakmem.Malloc(600); if p != nil { small = append(small, p) } }
	fmt.Println(len(small), "small", time.Since(t))
	var s hakmem.Stats
	for range 3 {
		t = time.Now(); hakmem.ReadStats(&s); fmt.Println("stats", time.Since(t))
	}
	fmt.Printf("reserved %.1f committed %.1f GiB metadata %.1f MiB resident %.1f MiB tables %.1f MiB\n", float64(s.Reserved)/(1<<30), float64(s.Committed)/(1<<30), float64(s.Metadata)/(1<<20), float64(s.Resident)/(1<<20), float64(s.ResidentBy.Tables)/(1<<20))
	for range 2 { t = time.Now(); hakmem.Trim(); fmt.Println("trim", time.Since(t)) }
	t = time.Now()
	for i, p := range all { if i%2 == 0 { hakmem.Free(p) } }
	fmt.Println("free half", time.Since(t))
	t = time.Now(); hakmem.Trim(); fmt.Println("trim", time.Since(t))
	t = time.Now(); fmt.Println("invariants", hakmem.CheckInvariants(), time.Since(t))
	t = time.Now(); p := hakmem.Malloc(4<<30); fmt.Println(p != nil, time.Since(t))
	time.Sleep(2*time.Second)
	hakmem.ReadStats(&s)
	fmt.Printf("ticks %d running %v resident %.1f tables %.1f\n", s.Scavenger.Ticks, s.Scavenger.Running, float64(s.Resident)/(1<<20), float64(s.ResidentBy.Tables)/(1<<20))
	b, _ := os.ReadFile("/proc/self/status")
	_ = b
}
