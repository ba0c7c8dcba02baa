//go:build (linux || darwin || freebsd) && !hakmem_noread

package osmem

// ReadableReserve says that a reserved range can read as zero for free. The build
// tag hakmem_noread takes that away, so that tests see here what Windows does.
const ReadableReserve = true
