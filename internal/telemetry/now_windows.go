package telemetry

import (
	"math/bits"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel    = windows.NewLazySystemDLL("kernel32.dll")
	counter   = kernel.NewProc("QueryPerformanceCounter")
	frequency = kernel.NewProc("QueryPerformanceFrequency")
)

// now returns the time since some moment, by a clock with steps of 100 ns or less. Go's monotonic
// clock has steps of 0.5 to 16 ms on Windows. Both calls have success on every Windows that Go
// supports.
func now() time.Duration {
	var n, hz uint64
	_, _, _ = counter.Call(uintptr(unsafe.Pointer(&n)))
	_, _, _ = frequency.Call(uintptr(unsafe.Pointer(&hz)))
	hi, lo := bits.Mul64(n, 1e9)
	ns, _ := bits.Div64(hi, lo, max(hz, hi+1))
	return time.Duration(ns)
}
