package governor

import (
	"errors"

	"github.com/hakmem/hakmem"
)

// Provider returns what the container's memory limit leaves for Go, in bytes: the limit less the memory of
// hakmem that may be resident (hakmem.Counted), and at least 32 MiB of it. It returns an error where there
// is no container's limit. It has the type of a provider of the module
// github.com/KimMachineGun/automemlimit, for programs that use that in place of a governor:
//
//	memlimit.Set(memlimit.WithProvider(governor.Provider), memlimit.WithRefreshInterval(time.Second))
//
// automemlimit gives Go a share of it, nine tenths by default. It moves only Go's limit. Do not run a
// governor next to it: both would set that limit, and the governor would step back.
//
// It reads the files of the container's limit. Any goroutine.
func Provider() (uint64, error) {
	limit, ok := hakmem.ContainerLimit()
	if !ok {
		return 0, errors.New("governor: Provider: the process has no container's memory limit: use memlimit.FromSystem or a number instead")
	}
	return leaves(limit, hakmem.Counted()), nil
}

// leaves returns what a limit leaves besides so many bytes of hakmem's memory.
func leaves(limit, counted uint64) uint64 {
	return max(less(limit, counted), min(limit, leastTotal))
}
