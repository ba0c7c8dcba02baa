package governor

import (
	"errors"

	"github.com/hakmem/hakmem"
)

// Provider returns what the container's memory limit leaves for Go, in bytes: the limit less the memory of
// hakmem that may be resident (Stats.Counted), and at least 32 MiB of it. It returns an error where there
// is no container's limit. It has the type of a provider of the module
// github.com/KimMachineGun/automemlimit, for programs that use that in place of a governor:
//
//	memlimit.Set(memlimit.WithProvider(governor.Provider), memlimit.WithRefreshInterval(time.Second))
//
// automemlimit gives Go a share of it, nine tenths by default. It moves only Go's limit. Do not run a
// governor next to it: both would set that limit, and the governor would step back.
//
// It takes some ms for each GiB that hakmem has. Any goroutine.
func Provider() (uint64, error) {
	limit, ok := hakmem.ContainerLimit()
	if !ok {
		return 0, errors.New("governor: Provider: the process has no container's memory limit: use memlimit.FromSystem or a number instead")
	}
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	return leaves(limit, s.MemoryStats), nil
}

// leaves returns what a limit leaves besides hakmem's memory.
func leaves(limit uint64, m hakmem.MemoryStats) uint64 {
	return max(less(limit, m.Counted), min(limit, leastTotal))
}
