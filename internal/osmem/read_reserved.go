//go:build (linux || darwin || freebsd) && !hakmem_noread

package osmem

// ReadableReserve says that a reserved range can be made to read as zero, at no cost in memory.
// With the build tag hakmem_noread it is false, so that tests on this system see what happens on
// Windows.
const ReadableReserve = true
