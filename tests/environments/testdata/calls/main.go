// Command calls is looked at by strace: a program of a few goroutines, timers, files and Go memory.
// With the build tag without_hakmem it does no more than that.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

func main() {
	if os.Getenv("CALLS_LIMIT") != "" { // a limit of address space, which hakmem asks for
		lim := syscall.Rlimit{Cur: 32 << 30, Max: 32 << 30}
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &lim); err != nil {
			panic(err)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				b := make([]byte, 1<<20)
				b[0] = 1
				time.Sleep(time.Millisecond)
			}
		})
	}
	work()
	wg.Wait()
	if _, err := os.ReadFile("/proc/self/statm"); err != nil {
		fmt.Println(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.FreeOSMemory()
	time.Sleep(10 * time.Millisecond)
	fmt.Println("ok")
}
