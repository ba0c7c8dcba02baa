// Package osmem holds all of hakmem's calls of the operating system for memory.
//
// The states of an address range, and the functions that move it between them:
//
//	unreserved --Reserve--> reserved --Commit--> committed --Discard--> committed, zero
//
// A reserved range faults when touched. A committed one may be read and written and starts as zero.
// (A part of a reserved range can also be made readable: it reads as zero and faults when written.)
// A range that was in use never becomes "unreserved" again: see the region in package engine.
//
// All functions may be called from any goroutine, block in a system call, and must not be called
// while pinned to a P. The functions that have an Op count each system call and each failure.
// Inject makes chosen calls fail, for tests.
package osmem

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
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
	OpPopulate
	numOps
)

var opNames = [numOps]string{"reserve", "commit", "discard", "resident", "advise", "move", "populate"}

func (o Op) String() string { return opNames[o] }

// ErrInjected is the error that tests inject.
var ErrInjected = errors.New("osmem: injected failure")

var (
	calls        [numOps]atomic.Uint64
	failed       atomic.Uint64
	inject       atomic.Pointer[func(Op) error]
	injectRanges atomic.Pointer[func(Range) error]
	injectPinned atomic.Pointer[func() error]
)

// Calls returns how often op reached the operating system.
func Calls(op Op) uint64 { return calls[op].Load() }

// Failed returns how many calls of any kind failed, except looks (OpResident): what a look asks is
// for statistics, and a system may refuse to say it.
func Failed() uint64 { return failed.Load() }

// Inject makes every function that has an Op call f first. If f returns an error, the function
// returns that error instead of making the system call (except as lose describes). Inject(nil) ends
// this. f may block for ever, as a thread does that is killed in a call. For tests.
func Inject(f func(Op) error) {
	looks.skip.Store(0)
	looks.penalty.Store(0)
	if f == nil {
		inject.Store(nil)
		return
	}
	inject.Store(&f)
}

// InjectRanges makes every return of memory call f with each range first. If f returns an error, the
// range is refused with this error, as if by the system: the call counts. InjectRanges(nil) ends
// this. For tests.
func InjectRanges(f func(Range) error) {
	if f == nil {
		injectRanges.Store(nil)
		return
	}
	injectRanges.Store(&f)
}

// InjectPinned makes CommitPinned call f first. If f returns an error, CommitPinned returns it instead of
// making the system call. InjectPinned(nil) ends this. f must not block, not even for a lock: the
// runtime ends the process if a pinned goroutine does. So Inject has no part in CommitPinned. For tests.
func InjectPinned(f func() error) {
	if f == nil {
		injectPinned.Store(nil)
		return
	}
	injectPinned.Store(&f)
}

// do makes a call of kind op, and counts it.
func do(op Op, call func() error) error {
	err := ask(op, call)
	if err != nil {
		failed.Add(1)
	}
	return err
}

// ask is do for a call whose failure is no error.
func ask(op Op, call func() error) error {
	if f := inject.Load(); f != nil {
		if err := (*f)(op); err != nil {
			return err
		}
	}
	calls[op].Add(1)
	return call()
}

// giveUp calls discard unless a test refuses the range.
func giveUp(addr mem.Addr, size mem.Bytes) error {
	if f := injectRanges.Load(); f != nil {
		if err := (*f)(Range{addr, size}); err != nil {
			return err
		}
	}
	if err := misaligned(addr); err != nil {
		return err
	}
	return discard(addr, size)
}

// Reserve takes size bytes of address space, a multiple of 64 KiB, without memory behind them. The
// result is aligned to the operating system's page.
func Reserve(size mem.Bytes) (addr mem.Addr, err error) {
	err = do(OpReserve, func() (e error) { addr, e = reserve(size); return e })
	if err != nil {
		return 0, err // mmap fails with an address of all ones
	}
	return addr, nil
}

// ErrNoChoice is returned by ReserveAt where the system does not let a program choose addresses.
var ErrNoChoice = errors.New("osmem: this system chooses the addresses of reservations")

// ReserveAt is Reserve of exactly [addr, addr+size), aligned to the operating system's page. It
// fails if anything of the process is in that range.
func ReserveAt(addr mem.Addr, size mem.Bytes) error {
	return do(OpReserve, func() error { return reserveAt(addr, size) })
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

// Release gives up a reservation that was never used, as a whole. It is not counted.
func Release(addr mem.Addr, size mem.Bytes) { release(addr, size) }

// MakeReadable makes a part of a reserved range readable, where ReadableReserve is true. It is left
// out of dumps of the process's memory. This is part of a reservation and counted as one.
func MakeReadable(addr mem.Addr, size mem.Bytes) error {
	return do(OpReserve, func() error { return makeReadable(addr, size) })
}

// Commit makes [addr, addr+size), a part of a reserved range aligned to the operating system's
// page, readable and writable. Pages that were not committed before read as zero. After an error
// some of them may be committed: repeating the call and doing without the range are both correct.
func Commit(addr mem.Addr, size mem.Bytes) error {
	return do(OpCommit, func() error {
		if err := misaligned(addr); err != nil {
			return err
		}
		return commit(addr, size)
	})
}

// CommitPinned is Commit for a goroutine that is pinned to its P. It makes the system call without
// letting the scheduler have the P meanwhile. The call does not wait for other systems or devices.
func CommitPinned(addr mem.Addr, size mem.Bytes) (err error) {
	if f := injectPinned.Load(); f != nil {
		err = (*f)()
	}
	if err == nil {
		calls[OpCommit].Add(1)
		err = commitPinned(addr, size)
	}
	if err != nil {
		failed.Add(1)
	}
	return err
}

// misaligned returns an error if addr is not the beginning of a page. Such a range is refused, as
// Linux does it: Windows and FreeBSD would begin with the page's first byte, which may be another
// block's.
func misaligned(addr mem.Addr) error {
	if mem.Bytes(addr)%systemPage != 0 {
		return fmt.Errorf("osmem: the range at %#x does not begin with a page of %d bytes", uint64(addr), uint64(systemPage))
	}
	return nil
}

// ErrDecommitted is wrapped in an error of Discard that left the range, or a part of it, without
// memory: it must not be touched until a Commit of it succeeds.
var ErrDecommitted = errors.New("osmem: the range is no longer committed")

// Discard gives the memory behind a committed range back to the operating
// system; the range stays committed and reads as zero afterwards. After an error
// each page may hold what it held or zeroes, and is still committed, unless the
// error wraps ErrDecommitted, which it never does on Linux.
func Discard(addr mem.Addr, size mem.Bytes) error {
	return lose(do(OpDiscard, func() error { return giveUp(addr, size) }), addr, size)
}

// lose makes the range inaccessible if an injected error claims that its memory is gone, so that a
// use of it faults.
func lose(err error, addr mem.Addr, size mem.Bytes) error {
	if err != nil && errors.Is(err, ErrInjected) && errors.Is(err, ErrDecommitted) {
		_ = withdraw(addr, size)
	}
	return err
}

// Renew is Discard for a range that is to lose its advice, too: the advice of HugePages and of the
// program itself, such as mlock. The range has no memory afterwards, and no name. It can be read all
// the time. Nobody may write it meanwhile: what is written during the call may be lost.
//
// After an error that does not wrap ErrDecommitted the range is what it was, with or without its
// contents. Only Linux has Renew; elsewhere it returns ErrNotSupported.
func Renew(addr mem.Addr, size mem.Bytes) error {
	return lose(do(OpDiscard, func() error { return renew(addr, size) }), addr, size)
}

// KeepsReadable says that a range can be read while Discard returns its memory, and after any error:
// as what it held, or as zeroes.
const KeepsReadable = runtime.GOOS == "linux"

// DiscardReadable is Discard for a range that others may read meanwhile. Only where KeepsReadable.
func DiscardReadable(addr mem.Addr, size mem.Bytes) error {
	return do(OpDiscard, func() error {
		if err := misaligned(addr); err != nil {
			return err
		}
		return discard(addr, size)
	})
}

// readsTake has what ReadsTakeMemory found: 0 before it looked, then readsTakeNone or readsTakeSome.
var readsTake atomic.Uint32

const (
	readsTakeNone = 1 + iota
	readsTakeSome
)

// ReadsTakeMemory reports whether a page that was never written, or was returned, gets memory when it is
// read. Most Linux systems have a page of zeroes for all such reads; some have none, nor have other systems.
// Where that cannot be found out, it reports that reads take memory. It tries it once.
func ReadsTakeMemory() bool {
	if readsTake.Load() == 0 {
		found := uint32(readsTakeSome)
		if takes, known := readTakesMemory(); known && !takes {
			found = readsTakeNone
		}
		readsTake.Store(found)
	}
	return readsTake.Load() == readsTakeSome
}

// AssumeReads makes ReadsTakeMemory report takes until restore is called. It is for tests.
func AssumeReads(takes bool) (restore func()) {
	before, found := readsTake.Load(), uint32(readsTakeNone)
	if takes {
		found = readsTakeSome
	}
	readsTake.Store(found)
	return func() { readsTake.Store(before) }
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
		err = do(OpDiscard, func() (e error) {
			if injectRanges.Load() != nil {
				n, e = 1, giveUp(r[done].Addr, r[done].Size)
				return e
			}
			n, e = discardMany(r[done:])
			return e
		})
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

// Populate gives memory to all of a committed range with one call, as if each of its OS pages were
// written, and changes none of their contents: what had no memory reads as zero. Afterwards touching
// the range faults no more. After an error a part of the range may have memory; all of it is usable in
// any case. CannotPopulate tells an error that every other call would have, too.
//
// Linux has Populate since 5.14 (MADV_POPULATE_WRITE). Elsewhere it returns ErrNotSupported, and counts
// nothing.
func Populate(addr mem.Addr, size mem.Bytes) error { return populate(addr, size) }

// CannotPopulate reports whether an error of Populate says that the system does not have it, or that a
// filter of system calls refuses it. Any goroutine, also pinned: it makes no system call.
func CannotPopulate(err error) bool { return cannotPopulate(err) }

// Withdraw gives the memory behind a committed range back and makes the range fault when touched,
// as before its Commit. After an error either may be the case.
func Withdraw(addr mem.Addr, size mem.Bytes) error {
	return do(OpDiscard, func() error {
		if err := misaligned(addr); err != nil {
			return err
		}
		return withdraw(addr, size)
	})
}

// Uncommit gives back the memory behind a committed range, and the right to it where the system
// counts that. The range is reserved then, until its next Commit; if readable is set it reads as
// zero. After an error it may be either.
func Uncommit(addr mem.Addr, size mem.Bytes, readable bool) error {
	return do(OpDiscard, func() error { return uncommit(addr, size, readable) })
}

// StrictCommit reports whether the system charges a process for all memory that is committed
// (vm.overcommit_memory = 2).
func StrictCommit() bool { return assumeStrict.Load() || strictCommit() }

var assumeStrict atomic.Bool

// AssumeStrictCommit makes StrictCommit report that the system charges. For tests, before anything else
// is done with the package.
func AssumeStrictCommit() { assumeStrict.Store(true) }

// LikelyReason says why the system may have refused to return memory with err, and what the program
// can do; "" where that is not known.
func LikelyReason(err error) string { return likelyReason(err) }

// Nap lets the goroutine wait for about d. In a bubble of testing/synctest it waits for real time,
// where the system's sleep can be called directly: on Linux.
func Nap(d time.Duration) { nap(d) }

// PageSize returns the operating system's page size in bytes.
func PageSize() mem.Bytes { return systemPage }

var systemPage = mem.Bytes(os.Getpagesize())

// AddressSpaceLeft returns how many bytes of address space the process may
// still reserve, or the largest uintptr where nothing limits it.
func AddressSpaceLeft() mem.Bytes { return addressSpaceLeft() }

// Name labels a range in the listings of the operating system, where that is possible. A failure is
// ignored, and the call is not counted.
func Name(addr mem.Addr, size mem.Bytes, name string) { setName(addr, size, name) }

// MappingsLeft returns how many more mappings the process may have, or false where that is not
// known. On Linux the time that it takes grows with the number of mappings: some 20 ms for 50,000.
func MappingsLeft() (left int, ok bool) {
	have, most, ok := mappings()
	return max(most-have, 0), ok
}
