package loops

import "fmt"

// What a process can find out about itself: its memory, its page faults. The system's part is in
// usage_*.go. There is no state.

// processUsage is a picture of this process. 0 stands for a figure that is not known.
type processUsage struct {
	peak, rss uint64  // bytes resident: the peak so far, and now
	faults    uint64  // minor page faults so far
	cpu       float64 // seconds of the processor that all threads used so far
}

// A process's timed part lies between two madvise calls, of no bytes, at these addresses: "hak",
// and B or E for its beginning and its end.
const (
	markBegin = 0x68616b42 << 12
	markEnd   = 0x68616b45 << 12
)

// Marks are the two addresses in the form in which a tracer of system calls shows them.
func Marks() (begin, end string) {
	return fmt.Sprintf("%#x", uint64(markBegin)), fmt.Sprintf("%#x", uint64(markEnd))
}
