package bench

import (
	"runtime"

	"github.com/hakmem/hakmem/bench/result"
)

// The description of the machine that measures. The system's part is in machine_*.go. There is no
// state.

// unknown stands for a figure that the system does not report.
const unknown = "n/a"

// ThisMachine describes the machine and the Go runtime of the caller.
func ThisMachine() result.Machine {
	return result.Machine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: kernel(), HugePages: hugePages(), Go: runtime.Version(),
	}
}
