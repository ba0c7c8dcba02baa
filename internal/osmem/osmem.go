// Package osmem holds all of hakmem's calls of the operating system for memory.
//
// The states of an address range, and the functions that move it between them:
//
//	unreserved --Reserve--> reserved (or readable) --Commit--> committed --Discard--> committed, zero
//
// A reserved range faults when touched; a readable one reads as zero and faults when written; a
// committed one may be read and written and starts as zero. A range that was in use never becomes
// "unreserved" again: see the region in package engine.
//
// All functions may be called from any goroutine, block in a system call, and must not be called
// while pinned to a P. The functions that have an Op count each system call and each failure.
// Inject makes chosen calls fail, for tests.
package osmem

import (
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	_ "github.com/hakmem/hakmem/internal/platform" // ends the build on platforms where nothing here would compile
)

// Op names one kind of memory call.
type Op uint8

const (
	OpReserve Op = iota
	OpCommit
	OpDiscard
	OpResident
	OpAdvise
	OpMove
	numOps
)

var opNames = [numOps]string{"reserve", "commit", "discard", "resident", "advise", "move"}

func (o Op) String() string { return opNames[o] }

// ErrInjected is the error that tests inject.
var ErrInjected = errors.New("osmem: injected failure")

var (
	calls  [numOps]atomic.Uint64
	failed atomic.Uint64
	inject atomic.Pointer[func(Op) error]
)

// Calls returns how often op reached the operating system.
func Calls(op Op) uint64 { return calls[op].Load() }

// Failed returns how many calls of any kind failed.
func Failed() uint64 { return failed.Load() }

// Inject makes every function that has an Op call f first. If f returns an error, the function
// returns that error instead of making the system call (except as lose describes). Inject(nil) ends
// this. For tests.
func Inject(f func(Op) error) {
	if f == nil {
		inject.Store(nil)
		return
	}
	inject.Store(&f)
}

func do(op Op, call func() error) error {
	if f := inject.Load(); f != nil {
		if err := (*f)(op); err != nil {
			failed.Add(1)
			return err
		}
	}
	calls[op].Add(1)
	err := call()
	if err != nil {
		failed.Add(1)
	}
	return err
}

// Reserve takes size bytes of address space, a multiple of 64 KiB, without
// memory behind them. The result is aligned to the operating system's page. A
// readable range reads as zero (where ReadableReserve is true).
func Reserve(size mem.Bytes, readable bool) (addr mem.Addr, err error) {
	err = do(OpReserve, func() (e error) { addr, e = reserve(size, readable); return e })
	if err != nil {
		return 0, err // mmap fails with an address of all ones
	}
	return addr, nil
}

// goMemory is the range that ReserveTracked returned. It is kept for ever, because parts of it may
// have protections that differ from those of the Go heap.
var goMemory []byte

// ReserveTracked is Reserve with memory of the Go heap, which the race detector watches. It is
// readable and writable from the start; protections can be changed as those of any other range.
// There is only one such range. It is returned again if it is reserved again, and is never
// released. Not for use by several goroutines at once.
func ReserveTracked(size mem.Bytes) (addr mem.Addr, err error) {
	err = do(OpReserve, func() error {
		if mem.Bytes(len(goMemory)) < size {
			goMemory = make([]byte, size)
		}
		addr = mem.Addr(unsafe.Pointer(unsafe.SliceData(goMemory)))
		return nil
	})
	return addr, err
}

// Release gives up a reservation that was never used, after the failure of another one. It is not
// counted.
func Release(addr mem.Addr, size mem.Bytes) { release(addr, size) }

// MakeReadable makes a part of a reserved range readable, where ReadableReserve
// is true. It is part of a reservation and counted as one.
func MakeReadable(addr mem.Addr, size mem.Bytes) error {
	return do(OpReserve, func() error { return makeReadable(addr, size) })
}

// Commit makes [addr, addr+size), a part of a reserved range aligned to the operating system's
// page, readable and writable. Pages that were not committed before read as zero. After an error
// some of them may be committed: repeating the call and doing without the range are both correct.
func Commit(addr mem.Addr, size mem.Bytes) error {
	return do(OpCommit, func() error { return commit(addr, size) })
}

// ErrDecommitted is wrapped in an error of Discard that left the range, or a part of it, without
// memory: it must not be touched until a Commit of it succeeds.
var ErrDecommitted = errors.New("osmem: the range is no longer committed")

// Discard gives the memory behind a committed range back to the operating
// system; the range stays committed and reads as zero afterwards. After an error
// each page may hold what it held or zeroes, and is still committed, unless the
// error wraps ErrDecommitted, which it never does on Linux.
func Discard(addr mem.Addr, size mem.Bytes) error {
	return lose(do(OpDiscard, func() error { return discard(addr, size) }), addr, size)
}

// lose makes the range inaccessible if an injected error claims that its memory is gone, so that a
// use of it faults.
func lose(err error, addr mem.Addr, size mem.Bytes) error {
	if err != nil && errors.Is(err, ErrInjected) && errors.Is(err, ErrDecommitted) {
		_ = withdraw(addr, size)
	}
	return err
}

// Range is a range of addresses, in bytes.
type Range struct {
	Addr mem.Addr
	Size mem.Bytes
}

// MaxRanges is the largest number of ranges for one call of DiscardMany: the number of iovecs that
// Linux accepts.
const MaxRanges = 1024

// DiscardMany is Discard for many ranges, with fewer calls where the system can. It returns how
// many ranges, from the first on, are done. An error that it returns is that of the next range
// after these.
func DiscardMany(r []Range) (done int, err error) {
	for done < len(r) && err == nil {
		n := 0
		err = do(OpDiscard, func() (e error) { n, e = discardMany(r[done:]); return e })
		if err == nil {
			done += n
		}
	}
	if done < len(r) {
		err = lose(err, r[done].Addr, r[done].Size)
	}
	return done, err
}

// ErrCannotMove is returned by Move where the system cannot move memory.
var ErrCannotMove = errors.New("osmem: this system does not move memory")

// Move moves the memory behind the committed range at from to the committed range at to, without
// copying it. What was behind the range at to is gone; the range at from stays committed and reads
// as zero. The ranges must not overlap, and both addresses and size are multiples of the operating
// system's page. After an error nothing has changed.
//
// Afterwards the range at to is a mapping of its own for the system, and what was one mapping around
// it is two. Move fails if the range at from belongs to several mappings.
func Move(from, to mem.Addr, size mem.Bytes) error { return move(from, to, size) }

// Withdraw gives the memory behind a committed range back and makes the range fault when touched,
// as before its Commit. After an error either may be the case.
func Withdraw(addr mem.Addr, size mem.Bytes) error {
	return do(OpDiscard, func() error { return withdraw(addr, size) })
}

// PageSize returns the operating system's page size in bytes.
func PageSize() mem.Bytes { return systemPage }

var systemPage = mem.Bytes(os.Getpagesize())

// AddressSpaceLeft returns how many bytes of address space the process may
// still reserve, or the largest uintptr where nothing limits it.
func AddressSpaceLeft() mem.Bytes { return addressSpaceLeft() }

// Name labels a range in the listings of the operating system, where that is possible. A failure is
// ignored, and the call is not counted.
func Name(addr mem.Addr, size mem.Bytes, name string) { setName(addr, size, name) }
