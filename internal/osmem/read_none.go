//go:build (linux || darwin || freebsd) && hakmem_noread

package osmem

// ReadableReserve is false: a range that is only reserved cannot be read, as on Windows.
const ReadableReserve = false
