package engine

import (
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/site"
)

// This file makes sites of callers (HAKMEM_SITES=pc). Of the blocks that are allocated without a site, those
// that are drawn (sample.go) get a site named after the function and the line that called hakmem. To walk the
// stack, to look a caller up, and the slow paths of such a block take 0.9 µs (docs/ledger.md, "Callers as sites"), so
// it is done for the drawn blocks only.
//
// A program counter has its site in a table without a lock. Sites and their names are never forgotten.

// knownPC is an entry of the table: a program counter, and what it is. is is 0 while the goroutine that took
// the entry has not filled it.
type knownPC struct {
	pc atomic.Uintptr
	is atomic.Uint32
}

// What a program counter is, if it is not a caller's. A caller's is the number of its site.
const (
	isOwn  = 1 << 30 // hakmem's own
	isNone = 1 << 31 // a caller's, for which no site was left
)

const (
	// mostPCs bounds the program counters that are known: a program of 1000 places that allocate, each of
	// which has a few of hakmem's inlined functions. Then all further callers share a site.
	mostPCs = 4096
	// pcBits makes the table four times as large, so that a search takes 1.2 steps on average (Knuth vol. 3,
	// 6.4, linear probing).
	pcBits = 14
)

// callers is the table, and how many entries are taken. byCaller has a bit for each site that is a caller.
var (
	callers struct {
		known  [1 << pcBits]knownPC
		n      atomic.Uint32
		shared atomic.Uint32 // what those are for which there is no room; 0: not registered yet
	}
	byCaller [(site.Max + 1) / 64]atomic.Uint64
)

// otherCallers is the name of the site of callers for which there is no room.
const otherCallers = "other callers"

// IsCaller reports whether a site is that of a caller. Any goroutine, without a lock.
func IsCaller(s site.ID) bool { return byCaller[s/64].Load()>>(s%64)&1 != 0 }

// module is the path of hakmem's module, which is that of the public package.
var module = strings.TrimSuffix(reflect.TypeFor[knownPC]().PkgPath(), "/internal/engine")

// ownFunction reports whether the function of this name is the public package's or internal to hakmem.
func ownFunction(name string) bool {
	rest, within := strings.CutPrefix(name, module)
	return within && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "/internal/"))
}

// callerSite returns the site of the function that called hakmem, or 0 if no site is left. Not entered.
func callerSite() site.ID {
	check.MustNotBeEntered("callerSite")
	var pcs [8]uintptr                  // of hakmem's own there are up to six
	for skip := 2; ; skip += len(pcs) { // runtime.Callers and callerSite itself
		n := runtime.Callers(skip, pcs[:])
		for _, pc := range pcs[:n] {
			switch is := lookUp(pc); is {
			case isOwn:
			case isNone:
				return 0
			default:
				return site.ID(is)
			}
		}
		if n < len(pcs) {
			return 0 // only if the runtime, which is below all, does not show itself
		}
	}
}

// lookUp returns what the program counter pc is. Any goroutine, without a lock, unless pc is a new one.
func lookUp(pc uintptr) uint32 {
	const mask = 1<<pcBits - 1
	// Multiples of the golden ratio, as in sampleAt.
	for i := uint64(pc) * 0x9E3779B97F4A7C15 >> (64 - pcBits); ; i = (i + 1) & mask {
		e := &callers.known[i]
		switch e.pc.Load() {
		case pc:
			if is := e.is.Load(); is != 0 {
				return is
			}
			return meetPC(pc) // as the goroutine does that took the entry
		case 0:
			if callers.n.Add(1) > mostPCs {
				callers.n.Add(^uint32(0))
				return sharedPC()
			}
			is := meetPC(pc)
			if e.pc.CompareAndSwap(0, pc) {
				e.is.Store(is)
				return is
			}
			callers.n.Add(^uint32(0))
			if e.pc.Load() == pc { // another goroutine has met it, too
				return is
			}
		}
	}
}

// meetPC finds out what a program counter is that runtime.Callers has returned, and registers its site.
func meetPC(pc uintptr) uint32 {
	// Each program counter stands for one function, also where functions are inlined.
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	if ownFunction(f.Function) {
		return isOwn
	}
	return callerNamed(f.Function + ":" + strconv.Itoa(f.Line))
}

// sharedPC returns what the program counters are for which there is no room.
func sharedPC() uint32 {
	is := callers.shared.Load()
	if is == 0 {
		is = callerNamed(otherCallers)
		callers.shared.Store(is)
	}
	return is
}

// callerNamed returns the number of the site with the name of a caller, or isNone.
func callerNamed(name string) uint32 {
	s := RegisterSite(name)
	if s == 0 {
		return isNone
	}
	byCaller[s/64].Or(1 << (s % 64))
	return uint32(s)
}
