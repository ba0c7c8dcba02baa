package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// watchEvery is the time between two looks at a child's memory. A run of a second gets some
// hundred, which take about 5 µs each.
const watchEvery = 5 * time.Millisecond

// watchMemory records the resident memory of process pid until the returned function is called,
// which returns the samples.
func watchMemory(pid int) (stop func() []sample) {
	quit, done := make(chan struct{}), make(chan []sample)
	go func() {
		var list []sample
		defer func() { done <- list }()
		f, err := os.Open(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			<-quit
			return
		}
		defer f.Close()
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		buf := make([]byte, 128)
		for {
			if n, _ := f.ReadAt(buf, 0); n > 0 {
				if fields := bytes.Fields(buf[:n]); len(fields) > 1 {
					if pages, err := strconv.ParseUint(string(fields[1]), 10, 64); err == nil {
						list = append(list, sample{monotonic(), pages * uint64(os.Getpagesize())})
					}
				}
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() []sample { close(quit); return <-done }
}

// monotonic returns the time of the clock that children report, in nanoseconds.
func monotonic() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return t.Nano()
}
