package measure

import (
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
)

// resident returns the resident memory of this process and its peak in bytes, and whether the system says so.
func resident() (now, peak int64, known bool) {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "VmRSS:":
				now, known = kib<<10, true
			case "VmHWM:":
				peak = kib << 10
			}
		}
	}
	return now, peak, known
}

// resetPeak makes the peak what is resident now, where the system can do that. Elsewhere the peak is that of the
// process, which has done little so far.
func resetPeak() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // man 5 proc: 5 resets the peak
}

// collector is what Go's collector has done.
type collector struct {
	seconds float64 // of processor time
	cycles  uint64
}

// readCollector reads it. The runtime counts the time of a cycle at its end.
func readCollector() collector {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	return collector{seconds: s[0].Value.Float64(), cycles: s[1].Value.Uint64()}
}
