//go:build amd64 || arm64

package environments_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
	"golang.org/x/sys/unix"
)

// Sandboxes of services: whatever a filter does with calls outside of @system-service, hakmem works,
// returns memory, and reports no error.

// quickly makes the scavenger work ten times as often.
var quickly = []string{"HAKMEM_DECAY_MS=220"}

// sandboxes are the filters, by name.
var sandboxes = map[string]struct {
	filter func() []unix.SockFilter
	// blind says that it cannot be asked what is resident.
	blind bool
}{
	"kill process": {filter: func() []unix.SockFilter { return only(systemService, killProcess) }},
	"kill thread":  {filter: func() []unix.SockFilter { return only(systemService, killThread) }},
	"refuse":       {filter: func() []unix.SockFilter { return only(systemService, refuse) }},
	"no ioctl":     {filter: func() []unix.SockFilter { return only(systemService, refuse, unix.SYS_IOCTL) }},
	"no pread":     {filter: func() []unix.SockFilter { return only(systemService, refuse, unix.SYS_IOCTL, unix.SYS_PREAD64) }, blind: true},
}

var _ = testkit.Child("in a sandbox", inASandbox)

// inASandbox uses hakmem under a filter. arg is the filter's name and, behind a slash, when it is
// set: "first", before hakmem is used, or "later", between two uses.
func inASandbox(arg string) error {
	name, when, _ := strings.Cut(arg, "/")
	box := sandboxes[name]
	if when == "later" {
		if err := riseAndFall(); err != nil {
			return err
		}
	}
	if err := set(box.filter()); err != nil {
		fmt.Println("no filter:", err)
		return nil
	}
	if err := riseAndFall(); err != nil {
		return err
	}
	s := workout.ReadStats()
	faults := s.PageFaults.Tiny + s.PageFaults.Mid + s.PageFaults.Large + s.PageFaults.Huge
	if _, err := os.Stat("/proc/self/pagemap"); err == nil && when == "first" && box.blind != (faults == 0) {
		return fmt.Errorf("%d page faults counted", faults)
	}
	if s.Scavenger.Returned == 0 || s.Scavenger.Holes == 0 && os.Getpagesize() == 4096 {
		return fmt.Errorf("%d bytes returned, and %d in holes", s.Scavenger.Returned, s.Scavenger.Holes)
	}
	if err := hakmem.Err(); err != nil || s.SystemCalls.Failed != 0 {
		return fmt.Errorf("%d failed calls, Err() = %w", s.SystemCalls.Failed, err)
	}
	return workout.NothingLost()
}

// riseAndFall fills memory with blocks of several kinds and frees most of them, so that pages and
// holes go back, first by the scavenger and then by Trim.
func riseAndFall() error {
	var kept []unsafe.Pointer
	defer func() {
		for _, p := range kept {
			hakmem.Free(p)
		}
	}()
	for round := range 2 {
		for _, size := range []uintptr{48, 1000, 4000, 40_000, 3 << 20} {
			var blocks []unsafe.Pointer
			for range 12 << 20 / size {
				p := hakmem.Malloc(size)
				if p == nil {
					return fmt.Errorf("out of memory: %w", hakmem.Err())
				}
				testkit.Fill(p, size, uint64(size))
				blocks = append(blocks, p)
			}
			for i, p := range blocks {
				if i%(200_000/int(min(size, 200_000))) == 0 && size < 10_000 {
					kept = append(kept, p)
					continue
				}
				hakmem.Free(p)
			}
		}
		if round == 0 {
			if err := atRest(); err != nil {
				return err
			}
		} else {
			hakmem.Trim()
		}
	}
	return nil
}

// atRest waits until the scavenger has nothing more to do.
func atRest() error {
	for deadline := time.Now().Add(20 * time.Second); workout.ReadStats().Scavenger.Running; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the scavenger is still at work after 20 s: %+v", workout.ReadStats().Scavenger)
		}
	}
	return nil
}

var _ = testkit.Child("outside", callOutside)

// callOutside makes a call outside of @system-service, under the filter that arg names.
func callOutside(arg string) error {
	if err := set(sandboxes[arg].filter()); err != nil {
		return err
	}
	ended := make(chan unix.Errno)
	go func() {
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, 0, 0, 0)
		ended <- errno
	}()
	select {
	case errno := <-ended:
		fmt.Println("ended:", errno)
	case <-time.After(2 * time.Second):
		fmt.Println("never ended")
	}
	return nil
}

func TestSandbox(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: -race, -asan; the sanitizers make calls outside of the filter themselves")
	}
	// First that the filters do what they say.
	for name, want := range map[string]string{"kill process": "", "kill thread": "never ended", "refuse": "ended: operation not permitted"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), testkit.ChildEnv("outside", name))
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "function not implemented") || strings.Contains(string(out), "invalid argument") {
			t.Skipf("skipped: no filters of system calls: %s", out)
		}
		if killed := want == ""; (err != nil) != killed || !strings.Contains(string(out), want) {
			t.Errorf("a call outside of the filter %q: %v, %s", name, err, out)
		}
	}
	for name := range sandboxes {
		for _, when := range []string{"first", "later"} {
			t.Run(name+"/"+when, func(t *testing.T) {
				t.Parallel()
				testkit.InChild(t, "in a sandbox", name+"/"+when, quickly...)
			})
		}
	}
}

var _ = testkit.Child("a call that hangs", aCallThatHangs)

// hangs is how a call that never returns is made. Each is for a kind of call, and the goroutine that
// makes the call first.
var hangs = map[string]struct {
	op    osmem.Op
	first func()
	// lost makes discards lose their memory, so that there are commits to hang in. before says that
	// the call is made before the scavenger has anything to do.
	lost, before bool
}{
	"look by a tick":      {op: osmem.OpResident, first: func() {}},
	"look by ReadStats":   {op: osmem.OpResident, first: func() { workout.ReadStats() }, before: true},
	"discard by a tick":   {op: osmem.OpDiscard, first: func() {}},
	"discard by Trim":     {op: osmem.OpDiscard, first: hakmem.Trim},
	"discard by a Malloc": {op: osmem.OpDiscard, first: func() { hakmem.Malloc(1 << 46) }},
	"commit by a tick":    {op: osmem.OpCommit, first: func() {}, lost: true},
	"commit by Trim":      {op: osmem.OpCommit, first: hakmem.Trim, lost: true},
}

// aCallThatHangs lets one goroutine hang in a call, as if its thread had been killed. Everything else
// goes on, or gives up after a bounded time and says why. When the call comes back after all, memory
// is returned again.
func aCallThatHangs(arg string) error {
	hang := hangs[arg]
	if strings.Contains(arg, "Malloc") {
		if err := hakmem.SetMemoryLimit(0, 512<<20); err != nil { // without one it returns no memory
			return err
		}
	}
	var blocks []unsafe.Pointer
	for range 1000 {
		p := hakmem.Malloc(50_000)
		testkit.Fill(p, 50_000, 1)
		blocks = append(blocks, p)
	}
	var hung atomic.Bool
	hanging, comeBack := make(chan bool), make(chan bool)
	osmem.Inject(func(op osmem.Op) error {
		if op == hang.op && (!hang.lost || mending()) && hung.CompareAndSwap(false, true) {
			close(hanging)
			<-comeBack
		} else if hang.lost && op == osmem.OpDiscard {
			return fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)
		}
		return nil
	})
	if hang.before {
		go hang.first()
		<-hanging
	}
	for _, p := range blocks {
		hakmem.Free(p)
	}
	if !hang.before {
		go hang.first()
	}
	select {
	case <-hanging:
	case <-time.After(20 * time.Second):
		return errors.New("no call was made")
	}
	goroutines := runtime.NumGoroutine()
	done := make(chan error)
	go func() { done <- whileItHangs(!hang.before) }()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-time.After(60 * time.Second):
		buf := make([]byte, 1<<16)
		return fmt.Errorf("something hangs:\n%s", buf[:runtime.Stack(buf, true)])
	}
	if n := runtime.NumGoroutine(); n > goroutines+4 {
		buf := make([]byte, 1<<16)
		return fmt.Errorf("%d goroutines, before there were %d:\n%s", n, goroutines, buf[:runtime.Stack(buf, true)])
	}
	osmem.Inject(nil) // first: what the call's goroutine does next is not refused, and left alone for a time
	close(comeBack)
	// What was refused is left alone for a time, and then tried again when the program does something.
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if err := atRest(); err != nil {
			return fmt.Errorf("the call has come back, and %w", err)
		}
		s := workout.ReadStats()
		if s.Scavenger.Dirty == 0 {
			return workout.NothingLost()
		}
		if time.Since(start) > 5*time.Second {
			return fmt.Errorf("the call has come back, and %d bytes stay dirty", s.Scavenger.Dirty)
		}
		hakmem.Free(hakmem.Malloc(5 << 20))
	}
}

// mending reports whether the caller was called to commit memory that a discard lost.
func mending() bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "engine.recommit") || !more {
			return more
		}
	}
}

// whileItHangs uses everything. hung says that it is the scavenger that hangs.
func whileItHangs(hung bool) error {
	start := time.Now()
	for range 3 {
		hakmem.Trim()
		workout.ReadStats()
		if p := hakmem.Malloc(1 << 46); p != nil {
			return errors.New("64 TiB were granted")
		}
	}
	if d := time.Since(start); d > 15*time.Second { // it gives up for 2 s, once
		return fmt.Errorf("Trim, ReadStats and failing allocations took %v", d)
	}
	err := workout.Together(4, func(g uint64) error {
		for i := range uint64(4) {
			if _, err := workout.Work(g*10+i, 24<<20, 2000); err != nil {
				return err
			}
			h := hakmem.NewHeap()
			h.Free(h.Malloc(100))
			h.Close()
		}
		return nil
	})
	if err != nil {
		return err
	}
	for range hakmem.LiveBlocks() {
	}
	said := strings.Count(fmt.Sprint(hakmem.Err()), "has not come back")
	if invalid := hakmem.CheckInvariants(); (invalid != nil) != hung || (said == 1) != hung || said > 1 {
		return fmt.Errorf("CheckInvariants() = %v, Err() = %v", invalid, hakmem.Err())
	}
	return nil
}

func TestCallThatHangs(t *testing.T) {
	for name := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testkit.InChild(t, "a call that hangs", name, quickly...)
		})
	}
}
