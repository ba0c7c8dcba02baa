package offheap

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/engine"
)

// This file is about values that were dropped while they held memory. The collector finds them
// unreachable and runs a cleanup on a goroutine of the runtime.

// AbandonedStats counts the values that became unreachable while they held memory, since the start of
// the program. Their memory was freed, except that of Owners with KeepDropped.
type AbandonedStats struct {
	Buffers, Interners, Maps, StringMaps, Owners uint64
}

// ReadAbandoned returns how many values were abandoned so far. Any goroutine may call it.
func ReadAbandoned() AbandonedStats {
	return AbandonedStats{Buffers: buffers.abandoned.Load(), Interners: interners.abandoned.Load(),
		Maps: maps.abandoned.Load(), StringMaps: stringMaps.abandoned.Load(), Owners: owners.abandoned.Load()}
}

// kind is a type whose values hold memory until their owner gives it back.
type kind struct {
	name, remedy string
	abandoned    atomic.Uint64
}

var (
	buffers    = kind{name: "Buffer", remedy: "Release each Buffer"}
	interners  = kind{name: "Interner", remedy: "Close each Interner"}
	maps       = kind{name: "Map", remedy: "Close each Map"}
	stringMaps = kind{name: "StringMap", remedy: "Close each StringMap"}
	owners     = kind{name: "Owner", remedy: "Close each Owner"}
)

// abandon counts a value that was dropped, and reports the first of its kind. It then calls free,
// which gives back the value's memory; nil leaves it allocated.
func (k *kind) abandon(by *stack, bytes uint64, free func()) {
	became := "were freed"
	if free == nil {
		became = "stay allocated"
	}
	if k.abandoned.Add(1) == 1 {
		engine.Survive(fmt.Errorf("offheap: %s %s, made by %v, was dropped with %d bytes: they %s; %s (ReadAbandoned counts them, this is the first)",
			article(k.name), k.name, by, bytes, became, k.remedy))
	}
	if free == nil {
		return
	}
	defer func() { // nobody could recover what panics on the runtime's goroutine
		if v := recover(); v != nil {
			engine.Survive(fmt.Errorf("offheap: freeing %s %s that was dropped: %v", article(k.name), k.name, v))
		}
	}()
	free()
}

func article(name string) string {
	if strings.ContainsRune("AEIOU", rune(name[0])) {
		return "an"
	}
	return "a"
}

var recordStacks atomic.Bool

// RecordStacks says whether from now on the stack is recorded with which an Interner or a map is made and
// a Buffer or an Owner gets its first memory, and returns what was set before. If one is abandoned, the report in [hakmem.Err]
// names the innermost three functions on that stack outside this package. The default is off, because a
// new Buffer then takes twice as long, and 128 bytes of Go memory more. Stacks are also recorded with
// HAKMEM_GUARD and while a hakmemtest.NoLeaks or a trace of calls is active. Any goroutine may call it.
func RecordStacks(on bool) (before bool) { return recordStacks.Swap(on) }

// stack holds the innermost callers of a function. Up to six are in this package (the method, what it
// calls on the way to an allocation, and callers); then there may be a few of io or fmt.
type stack [16]uintptr

// maxNamed is how many functions a report names: fmt.Fprintf or io.Copy may be the first, and the one that
// made the value comes behind.
const maxNamed = 3

// callers returns the stack of its caller, or nil if none is to be recorded.
func callers() *stack {
	if !recordStacks.Load() && engine.GuardRate() == 0 && !engine.Watched() {
		return nil
	}
	s := new(stack)
	runtime.Callers(2, s[:])
	return s
}

// String names the functions that called this package, innermost first.
func (s *stack) String() string {
	if s == nil {
		return "a function that was not recorded (RecordStacks(true) or HAKMEM_GUARD=1 records it)"
	}
	var named []string
	frames := runtime.CallersFrames(s[:])
	for more := true; more && len(named) < maxNamed; {
		var f runtime.Frame
		f, more = frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, ownPrefix) {
			named = append(named, fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line))
		}
	}
	if named == nil {
		return "a function that is not known"
	}
	return strings.Join(named, " called by ")
}

// ownPrefix begins the name of every function of this package. It is derived from the name of one, so
// that it is right in a fork and in a vendored copy, too.
var ownPrefix = func() string {
	pc, _, _, _ := runtime.Caller(0)
	name := runtime.FuncForPC(pc).Name()
	slash := strings.LastIndexByte(name, '/') + 1
	pkg, _, _ := strings.Cut(name[slash:], ".")
	return name[:slash] + pkg + "."
}()
