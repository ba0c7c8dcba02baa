//go:build !((linux || darwin || freebsd || windows) && (amd64 || arm64 || riscv64 || ppc64le || s390x || loong64 || ppc64 || mips64 || mips64le))

package platform

// The compiler says what cannot be used as a number here: that is the message. (It
// would repeat one of more than 72 bytes.)
const _ int = "hakmem needs a 64-bit platform with Linux, macOS, FreeBSD or Windows"
