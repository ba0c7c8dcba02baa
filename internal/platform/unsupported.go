//go:build !((linux || darwin || freebsd || windows) && (amd64 || arm64 || riscv64 || ppc64le || s390x || loong64 || ppc64 || mips64 || mips64le))

package platform

// The compiler reports the text below because it cannot be used as a number: that is the message.
// (The compiler would print a text of more than 72 bytes twice.)
const _ int = "hakmem needs a 64-bit platform with Linux, macOS, FreeBSD or Windows"
