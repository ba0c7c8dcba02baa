// Package platform makes a build fail with one line that says why where hakmem
// cannot work. It holds nothing else and imports nothing. Package osmem imports
// it, so that where this package does not compile, nothing that stands on it is
// tried, and the one line is all there is to read.
//
// A new operating system needs the functions that osmem_linux.go and
// resident_linux.go of package osmem have; a new architecture needs 64-bit
// pointers, of which the system leaves programs a few hundred GiB, and a run of
// the engine's tests. Then it is to be added to the build tag of unsupported.go.
package platform
