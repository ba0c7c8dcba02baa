//go:build !(race && hakmem_racetrack)

package policy

// DefaultRegion is the size of the address range reserved by default: 1 TiB. That is well beyond
// the memory of today's machines, and 1/128 of a 47-bit address space.
const DefaultRegion = 1 << 40
