//go:build !(linux || darwin || freebsd || windows)

package osmem

// hakmem needs a port of this package to your operating system: the functions
// that osmem_linux.go has.
const _ = hakmem_does_not_support_this_operating_system_yet
