//go:build !(amd64 || arm64 || riscv64 || ppc64le || s390x || loong64)

package osmem

// The region is a terabyte of address space: it needs 64-bit pointers.
const _ = hakmem_needs_a_64_bit_platform
