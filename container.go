package hakmem

import "github.com/hakmem/hakmem/internal/cgroup"

// ContainerLimit returns the memory limit of the container in which the process runs, in bytes. ok is
// false where there is none: outside of a container, in one that is not limited, and on systems other
// than Linux.
//
// The limit is the lowest of those that hold for the process's control group and for the groups above
// it that the container shows: memory.max and memory.high of version 2, memory.limit_in_bytes of
// version 1. It is read at each call, from files. Any goroutine may call it.
//
// The container's limit holds for the whole process: for hakmem's memory, Go's heap, code and stacks,
// and for page tables and cached files that the kernel charges to it. So leave room when it is given
// to [SetMemoryLimit]:
//
//	if limit, ok := hakmem.ContainerLimit(); ok {
//		err := hakmem.SetMemoryLimit(limit/100*70, limit/100*80)
//		...
//	}
//
// HAKMEM_MEMORY_HARD=80% does the same when the program starts, and HAKMEM_MEMORY_HARD=cgroup with
// 85%. Where there is no container's limit, they set none.
func ContainerLimit() (bytes uint64, ok bool) { return cgroup.Limit() }
