package loops

// The parameters of a workload, and their bounds.

// Params are the parameters of a workload; a loop uses some of them. docs/benchmarks.md says
// exactly what each means to a loop.
type Params struct {
	// Min and Max bound the size of a block, in bytes, both included. Where there is no Min, the
	// sizes follow from Max alone.
	Min uint64 `json:"min,omitempty"`
	Max uint64 `json:"max,omitempty"`
	// WS is the number of slots, or of blocks held, of each thread.
	WS uint64 `json:"ws,omitempty"`
	// Iters is the number of operations, or of a loop's innermost repetitions, of each thread.
	// Rounds is how often the whole is repeated.
	Iters  uint64 `json:"iters,omitempty"`
	Rounds uint64 `json:"rounds,omitempty"`
	// Alive is the number of blocks that a thread holds at a time.
	Alive uint64 `json:"alive,omitempty"`
	// Stride is the distance in bytes between the writes into a block. 4096 writes to every OS
	// page; a stride beyond Max writes only the first byte.
	Stride uint64 `json:"stride,omitempty"`
	// Threads is the number of threads (goroutines in Go).
	Threads int `json:"threads,omitempty"`
	// Seed starts the random sequence; thread i starts from Seed+i. Not 0.
	Seed uint32 `json:"seed,omitempty"`
	// Tape is the file that holds the operations of the loop "tape" (package bench/trace).
	Tape string `json:"tape,omitempty"`
}

// Bounds of the parameters. Sizes and slots are drawn as a 32-bit number times the range. These
// bounds keep that product, and the memory asked for, within limits.
const (
	MaxSize    = 1 << 30 // bytes of a block
	MaxWS      = 1 << 28 // slots: 2 GiB of them
	MaxIters   = 1 << 50 // days of work
	MaxThreads = 16384   // more than the 10,000 of growth; half of what Linux gives a process by default
)

// A ParamError is a parameter that a workload cannot use.
type ParamError struct{ Name, Value, Remedy string }

func (e *ParamError) Error() string {
	return "--" + e.Name + " " + e.Value + ": " + e.Remedy
}

// threadSeed is the seed of thread i: Seed+i. Where that is 0, the fixed point of xorshift, it is
// the seed of Marsaglia's own example.
func (p Params) threadSeed(i int) uint32 {
	if s := p.Seed + uint32(i); s != 0 {
		return s
	}
	return 2463534242
}
