// Package platform makes a build fail where hakmem cannot work, with one line that says why. It
// contains nothing else and imports nothing. Package osmem imports it, so that where this package
// does not compile, the packages that depend on it are not compiled, and the one line is the only
// error.
//
// A new operating system needs the functions that osmem_linux.go, look_linux.go and resident_linux.go of
// package osmem have. A new architecture needs 64-bit pointers, a few hundred GiB of address space for each
// program, and a run of the engine's tests. Then add it to the build tag of unsupported.go.
package platform
