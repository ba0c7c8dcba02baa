//go:build amd64 || arm64

package environments_test

import (
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A filter of system calls (seccomp), as sandboxes set it.

// verdict is what a filter does with a call that it does not allow.
type verdict uint32

const (
	killProcess verdict = unix.SECCOMP_RET_KILL_PROCESS
	killThread  verdict = unix.SECCOMP_RET_KILL_THREAD
	refuse      verdict = unix.SECCOMP_RET_ERRNO | verdict(unix.EPERM)
	invalid     verdict = unix.SECCOMP_RET_ERRNO | verdict(unix.EINVAL)
)

// argument is the offset of the low half of a call's n-th argument in what a filter sees.
func argument(n uint32) uint32 { return 16 + 8*n }

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// ifEqual skips the given number of instructions unless the loaded word is k.
func ifEqual(k uint32, otherwise uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: otherwise, K: k}
}

func result(v verdict) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(v)}
}

// only is a filter that allows the given calls, except those taken out, and does v with all others.
func only(calls []uintptr, v verdict, except ...uintptr) (f []unix.SockFilter) {
	f = append(f, load(0)) // the call's number
	for _, nr := range calls {
		if !slices.Contains(except, nr) {
			f = append(f, ifEqual(uint32(nr), 1), result(unix.SECCOMP_RET_ALLOW))
		}
	}
	return append(f, result(v))
}

// noLockedReturn is a filter that makes the system like Linux before 5.18: it returns no locked
// memory. process_madvise is refused because its advice cannot be told from that of madvise.
func noLockedReturn() []unix.SockFilter {
	return []unix.SockFilter{
		load(0),
		ifEqual(unix.SYS_PROCESS_MADVISE, 1), result(invalid),
		ifEqual(unix.SYS_MADVISE, 3),
		load(argument(2)),
		ifEqual(unix.MADV_DONTNEED_LOCKED, 1), result(invalid),
		result(unix.SECCOMP_RET_ALLOW),
	}
}

// set puts the filter in force for all threads of the process, for ever.
func set(f []unix.SockFilter) error {
	runtime.LockOSThread() // the first call is for the thread, the second for all
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return errno
	}
	return nil
}
