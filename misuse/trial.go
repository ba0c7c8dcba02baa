package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// The outcomes of a trial.
const (
	atCall    = "at the call" // the call that was the misuse reported it, or refused
	later     = "later"       // a correct call afterwards reported it
	callLater = "at the call or later"
	notCaught = "not caught"
	byChance  = "by chance"
	oneInTwo  = "at the call, one time in two"
	fault     = "fault"   // the access faulted
	corrupt   = "CORRUPT" // the allocator no longer works: a defect, which no row of the tables may have
	died      = "DIED"    // the process ended without an outcome
	timeout   = "TIMEOUT"
	lawful    = "no misuse"
	cannot    = "cannot arise"
	skipped   = "skipped"
)

// outcome is what happened to one case in one process. Its JSON form is the line that the process
// prints.
type outcome struct {
	Case    string `json:"case"`
	Size    string `json:"size"`
	Level   string `json:"level,omitempty"`
	Outcome string `json:"outcome"`
	Call    string `json:"call,omitempty"`    // what reported it
	Kind    string `json:"kind,omitempty"`    // MisuseError.Kind or the like; the effect of a misuse that was not caught
	Message string `json:"message,omitempty"` // the whole text
	Address string `json:"address,omitempty"` // Go's fault address
}

// text is the outcome as the table of expected outcomes has it: the part that is the same in every
// run.
func (o outcome) text() string {
	s := o.Outcome
	if c := caseNamed(o.Case); c.chance && o.Level != "race" && o.Outcome != corrupt && o.Outcome != timeout {
		return byChance
	}
	if o.Level == "guard" && (o.Size == "tiny" || o.Size == "any") && strings.HasPrefix(o.Kind, "buffer ") || o.sideRead() {
		s = callLater // depending on the end of its pages where the block was placed
		if o.sideRead() {
			s, o.Kind = oneInTwo, "buffer overflow"
		}
		return s + ": " + o.Kind
	}
	if o.Outcome == later {
		s += " by " + o.Call
	}
	if o.Kind != "" {
		s += ": " + o.Kind
	}
	return s
}

// sideRead reports whether this is a read past the end of a guarded block that is smaller than its
// page. Only a guard page on that side finds it.
func (o outcome) sideRead() bool {
	return o.Level == "guard" && (o.Case == "overread-1" && o.Size == "tiny" || o.Case == "zero-size-read") &&
		(o.Outcome == atCall || o.Outcome == notCaught)
}

// trial is the run of one case.
type trial struct {
	size uintptr
	out  outcome
}

// stop unwinds a trial whose outcome is known.
type stop struct{}

// misuse makes the wrong call or the wrong access. If that is reported, the outcome is "at the
// call".
func (t *trial) misuse(call string, do func()) { t.watch(atCall, call, do) }

// then makes a correct call, which may find what was done before.
func (t *trial) then(call string, do func()) { t.watch(later, call, do) }

func (t *trial) watch(when, call string, do func()) {
	kind, text, addr := report(do)
	if kind == "" {
		return
	}
	t.out.Outcome, t.out.Call, t.out.Kind, t.out.Message = when, call, kind, text
	if addr != 0 {
		t.out.Outcome, t.out.Address = fault, fmt.Sprintf("%#x", addr)
	}
	panic(stop{})
}

// effect records what a misuse did that nothing reported.
func (t *trial) effect(s string) { t.out.Kind = s }

// skip is the panic of a case that cannot run here.
type skip string

// impossible is the panic of a case that cannot arise at this level.
type impossible string

// refusal is the panic of a case whose function refused the call by its result.
type refusal string

// report calls do and returns the kind and the text of its panic, and the address if it was a
// fault. kind is "" if do returned.
func report(do func()) (kind, text string, addr uintptr) {
	defer func() {
		v := recover()
		var m *hakmem.MisuseError
		var oom *hakmem.OutOfMemoryError
		var re runtime.Error
		err, _ := v.(error)
		switch {
		case v == nil:
		case v == stop{}:
			panic(v)
		case errors.As(err, &m):
			kind, text = m.Kind, m.Error()
		case errors.As(err, &oom):
			kind, text = "out of memory", oom.Error()
		case errors.As(err, &re):
			text = re.Error()
			if f, ok := re.(interface{ Addr() uintptr }); ok {
				kind, addr = "unexpected fault address", f.Addr()
			} else if kind = "Go's nil check"; strings.Contains(text, "out of range") {
				kind = "Go's bounds check"
			}
		default: // a panic with a text
			text = fmt.Sprint(v)
			if kind = "refused"; strings.Contains(text, "cannot live outside the Go heap") {
				kind = "pointer type"
			}
			if r, ok := v.(refusal); ok {
				kind = string(r)
			}
		}
	}()
	hakmem.CatchFaults(do)
	return
}

// try runs a case in this process.
func try(c *misuseCase, size string) outcome {
	t := &trial{size: sizes[size], out: outcome{Case: c.name, Size: size, Outcome: notCaught}}
	// Cases hold invalid pointers. The garbage collector ends the program when it finds one on a
	// stack, and so does the growth of a stack that holds a number below 4096 as a pointer.
	debug.SetGCPercent(-1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		growStack(128)
		defer func() {
			if v := recover(); v != nil {
				t.out.Outcome, t.out.Kind, t.out.Message = corrupt, "panic outside the misuse", fmt.Sprint(v)
			}
		}()
		debug.SetPanicOnFault(true)
		func() {
			defer func() {
				switch v := recover().(type) {
				case nil, stop:
				case skip:
					t.out.Outcome, t.out.Message = skipped, string(v)
				case impossible:
					t.out.Outcome, t.out.Kind = cannot, string(v)
				default:
					panic(v)
				}
			}()
			c.run(t)
		}()
		if !c.unsound {
			t.soundness()
		}
	}()
	<-done
	return t.out
}

// soundness makes the allocator work after the misuse. What it reports then counts as found later;
// what is wrong without a report counts as corruption.
func (t *trial) soundness() {
	if t.out.Outcome != corrupt {
		t.judge(sound())
	}
}

// judge takes the result of sound into the outcome.
func (t *trial) judge(err error) {
	caught := !slices.Contains([]string{notCaught, lawful, cannot, skipped}, t.out.Outcome)
	var m *hakmem.MisuseError
	switch {
	case err == nil || caught && errors.As(err, &m) && m.Late:
	case errors.As(err, &m) && !caught:
		t.out.Outcome, t.out.Call, t.out.Kind, t.out.Message = later, m.Op, m.Kind, m.Error()
	default:
		t.out.Outcome, t.out.Message = corrupt, err.Error()
	}
}

// sound allocates blocks of every kind, holds all of them at once, and frees them. Each must be
// there, must keep what was written to its ends, and must not overlap another. In the end as much
// must be alive as before.
func sound() (err error) {
	defer func() {
		if v := recover(); v != nil {
			if e, ok := v.(error); ok {
				err = e
			} else {
				err = fmt.Errorf("%v", v)
			}
		}
	}()
	var before, after hakmem.Stats
	hakmem.ReadStats(&before)
	type block struct{ p, size uintptr }
	var blocks []block
	for round := range 12 {
		for _, size := range []uintptr{16, 48, 720, 1024, 3000, 4096, 32 << 10, 100_000, 256 << 10, 3 << 20} {
			if size > 4096 && round >= 2 {
				continue
			}
			b := block{addr(hakmem.Malloc(size)), size}
			if b.p == 0 {
				return fmt.Errorf("no block of %d bytes: %w", size, hakmem.Err())
			}
			blocks = append(blocks, b)
			writeWord(b.p, uint64(b.p))
			writeWord(b.p+size-8, ^uint64(b.p))
		}
	}
	slices.SortFunc(blocks, func(a, b block) int { return cmp.Compare(a.p, b.p) })
	for i, b := range blocks {
		if i > 0 && blocks[i-1].p+blocks[i-1].size > b.p {
			return fmt.Errorf("block %#x of %d bytes overlaps block %#x", blocks[i-1].p, blocks[i-1].size, b.p)
		}
		if readWord(b.p) != uint64(b.p) || readWord(b.p+b.size-8) != ^uint64(b.p) {
			return fmt.Errorf("block %#x of %d bytes was changed", b.p, b.size)
		}
	}
	for _, b := range blocks {
		hakmem.Free(ptr(b.p))
	}
	hakmem.ReadStats(&after)
	if before.Live != after.Live || before.LiveBlocks != after.LiveBlocks {
		return fmt.Errorf("%d bytes alive in %d blocks, before %d in %d", after.Live, after.LiveBlocks, before.Live, before.LiveBlocks)
	}
	hakmem.Trim()
	return nil
}

// growStack uses n KiB of stack.
//
//go:noinline
func growStack(n int) (sum byte) {
	var b [1024]byte
	if n > 0 {
		sum = growStack(n - 1)
	}
	b[n] = 1
	return sum + b[n/2]
}

// Addresses are numbers until they are used, so that the Go runtime does not see the invalid
// pointers of a case. checkptr would refuse the very accesses that are the purpose here, so it is
// switched off. (norace is not: it would keep -asan from checking, too.)

//go:nocheckptr
func ptr(p uintptr) unsafe.Pointer { return unsafe.Add(nil, p) }

func addr(p unsafe.Pointer) uintptr { return uintptr(p) }

//go:nocheckptr
//go:noinline
func read(p uintptr) byte { return *(*byte)(ptr(p)) }

//go:nocheckptr
//go:noinline
func write(p uintptr, b byte) { *(*byte)(ptr(p)) = b }

// change changes the n bytes at p.
//
//go:nocheckptr
//go:noinline
func change(p, n uintptr) {
	for i := range n {
		*(*byte)(ptr(p + i)) ^= 0x55
	}
}

//go:nocheckptr
func readWord(p uintptr) uint64 { return *(*uint64)(ptr(p)) }

//go:nocheckptr
func writeWord(p uintptr, v uint64) { *(*uint64)(ptr(p)) = v }

// hardened reports whether the process runs with HAKMEM_HARDEN.
func hardened() bool { return os.Getenv("HAKMEM_HARDEN") == "1" }

// guarded reports whether every block lies between guard pages.
func guarded() bool { return os.Getenv("HAKMEM_GUARD") == "1" }
