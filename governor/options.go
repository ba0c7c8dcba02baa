package governor

import (
	"fmt"
	"math"
	"time"
)

// Options says what a governor is to keep. The zero value is for a program in a container with a memory
// limit.
type Options struct {
	// Total is the most memory that the process should have resident, in bytes. 0 is the limit of the
	// container (hakmem.ContainerLimit), which is read again every ten seconds, because containers are
	// resized. Where there is a container's limit below Total, it holds in place of Total. A total that is
	// less than what is alive makes Go collect nearly without pause and hakmem return whatever is freed.
	//
	// Default 0, from 32 MiB to 2^62 bytes.
	Total uint64

	// Reserve is the part of the total for memory that neither Go nor hakmem counts, in bytes: code, page
	// tables, cached files that the kernel charges to the container, memory of C libraries. With too small a
	// reserve the kernel ends the process although both limits are kept; what is too large stays unused. 0
	// is a tenth of the total, and moves with it.
	//
	// Default 0, from 0 to half of the total.
	Reserve uint64

	// Period is the time between two looks at what memory is used for. A look takes about 1 ms for each GiB
	// that hakmem has (hakmem.ReadStats), and the governor waits at least a hundred times as long as the
	// last one took: so it takes a hundredth of a processor at most. A longer period lets the
	// process exceed the total by more when hakmem grows fast.
	//
	// Default 100 ms, from 10 ms to 10 s.
	Period time.Duration
}

const (
	mib = 1 << 20
	// leastTotal: Go's runtime and hakmem's tables take some 10 MiB in a program that does nothing, and
	// some 20 when it works.
	leastTotal = 32 * mib
	// mostTotal is above all that a machine has, and leaves room for sums of two in an int64.
	mostTotal = 1 << 62
	// reserveShare: the default reserve is a tenth. Of a container of 1.12 L hakmem can use L
	// (docs/tuning.md, "Containers and memory limits"), and automemlimit leaves a tenth too.
	reserveShare = 10
	// defaultPeriod: a program that faults in 1 GiB/s grows by 100 MiB in it, a tenth of a usual container.
	defaultPeriod = 100 * time.Millisecond
	// leastPeriod: a look takes some 0.1 ms in a small process, a hundredth of it.
	leastPeriod = 10 * time.Millisecond
	// mostPeriod: a container that grows for ten seconds unseen is ended by the kernel.
	mostPeriod = 10 * time.Second
)

// checked returns o with defaults in place of zeros, or an error that names the field, its value and the
// remedy. limit is the container's; 0 is none.
func (o Options) checked(limit uint64) (Options, error) {
	if o.Period == 0 {
		o.Period = defaultPeriod
	}
	switch total := o.total(limit); {
	case o.Total == 0 && limit == 0:
		return o, fmt.Errorf("governor: Options.Total is 0 and the process has no container's memory limit: set Total to the most bytes that it may have")
	case o.Total > mostTotal:
		return o, fmt.Errorf("governor: Options.Total of %d bytes: use %d at most", o.Total, uint64(mostTotal))
	case o.Total != 0 && o.Total < leastTotal:
		return o, fmt.Errorf("governor: Options.Total of %d bytes: use at least %d, which a Go program needs", o.Total, leastTotal)
	case total < leastTotal:
		return o, fmt.Errorf("governor: the container's memory limit of %d bytes: raise it to at least %d, which a Go program needs", limit, leastTotal)
	case o.Reserve > total/2:
		return o, fmt.Errorf("governor: Options.Reserve of %d bytes is more than half of the total of %d: use %d at most, or 0 for a tenth", o.Reserve, total, total/2)
	case o.Period < leastPeriod || o.Period > mostPeriod:
		return o, fmt.Errorf("governor: Options.Period of %v: use 0 for %v, or %v to %v", o.Period, defaultPeriod, leastPeriod, mostPeriod)
	}
	return o, nil
}

// total returns the total that holds while the container's limit is limit; 0 is none.
func (o Options) total(limit uint64) uint64 {
	if o.Total == 0 || limit != 0 && limit < o.Total {
		return min(limit, mostTotal)
	}
	return o.Total
}

// budget returns what Go and hakmem may have together. It is half of the total at least, also where a
// container has become so small that the reserve leaves less: something must be left to divide.
func (o Options) budget(limit uint64) uint64 {
	total := o.total(limit)
	reserve := o.Reserve
	if reserve == 0 {
		reserve = total / reserveShare
	}
	return max(total-min(reserve, total), total/2)
}

// inInt64 returns n as debug.SetMemoryLimit takes it.
func inInt64(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
