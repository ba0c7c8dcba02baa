package environments_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/realtime"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// First uses of hakmem that must not lend it anything of the caller's: a goroutine in a bubble of
// testing/synctest with its own clock, one with a thread of its own, a finalizer, an init function.
// After each of them everything goes back by itself in real time, and no goroutine is left.

// strangers are the first uses. Each of them allocates and frees memory.
var strangers = map[string]func(t *testing.T){
	"plain":  func(*testing.T) { useAll() },
	"bubble": func(t *testing.T) { synctest.Test(t, func(*testing.T) { useAll() }) },
	"bubble, and time passes in it": func(t *testing.T) {
		synctest.Test(t, func(*testing.T) {
			for range 3 {
				useAll()
				time.Sleep(time.Hour)
				synctest.Wait()
			}
		})
	},
	"bubble, with Trim": func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			useAll()
			hakmem.Trim()
			if s := workout.ReadStats(); s.Scavenger.Dirty != 0 {
				t.Errorf("%d bytes are dirty after Trim", s.Scavenger.Dirty)
			}
			useAll()
		})
	},
	"bubble, with a Heap that is dropped": func(t *testing.T) {
		synctest.Test(t, func(*testing.T) {
			func() {
				h := hakmem.NewHeap()
				for range 1000 {
					h.Free(h.Malloc(10_000))
				}
			}()
			runtime.GC()
			useAll()
		})
		for end := time.Now().Add(10 * time.Second); workout.ReadStats().Abandoned.Heaps == 0; time.Sleep(time.Millisecond) {
			if runtime.GC(); time.Now().After(end) {
				t.Fatal("the Heap was not found")
			}
		}
	},
	"bubbles and outside, in turns": func(t *testing.T) {
		for range 5 {
			synctest.Test(t, func(*testing.T) { useAll() })
			useAll()
		}
	},
	"bubbles and outside, at once": func(t *testing.T) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 2 {
					useAll()
				}
			})
		}
		for range 2 {
			synctest.Test(t, func(*testing.T) {
				for range 3 {
					go useAll()
				}
			})
		}
		wg.Wait()
	},
	// The bubble ends only after the check.
	"bubble without end": func(t *testing.T) {
		used, end, ended := make(chan bool), make(chan bool), make(chan bool)
		go func() {
			defer close(ended)
			synctest.Test(t, func(*testing.T) {
				useAll()
				used <- true
				<-end
			})
		}()
		<-used
		t.Cleanup(func() { close(end); <-ended })
	},
	"bubble, with a trace": func(t *testing.T) {
		if err := hakmem.StartTrace(io.Discard); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(*testing.T) { useAll() })
		useAll()
		if err := hakmem.StopTrace(); err != nil {
			t.Fatal(err)
		}
	},
	"bubble, with a cleanup": func(t *testing.T) {
		done := make(chan bool)
		synctest.Test(t, func(*testing.T) {
			runtime.AddCleanup(new([4]uintptr), func(int) { useAll(); close(done) }, 0)
			useAll()
		})
		collectUntil(t, done)
	},
	"finalizer": func(t *testing.T) {
		done := make(chan bool)
		runtime.SetFinalizer(new([4]uintptr), func(*[4]uintptr) { useAll(); close(done) })
		collectUntil(t, done)
	},
	"goroutine with a thread": func(*testing.T) {
		var wg sync.WaitGroup
		wg.Go(func() {
			runtime.LockOSThread() // and the thread ends with the goroutine
			useAll()
		})
		wg.Wait()
	},
	"init function": func(*testing.T) {}, // see init
}

// collectUntil collects garbage until done is closed.
func collectUntil(t *testing.T, done chan bool) {
	for end := time.After(10 * time.Second); ; {
		runtime.GC()
		select {
		case <-done:
			return
		case <-end:
			t.Fatal("not called within 10 s")
		case <-time.After(time.Millisecond):
		}
	}
}

const strangerVar = "HAKMEM_TEST_STRANGER"

func init() {
	if os.Getenv(strangerVar) == "init function" {
		useAll()
	}
}

// useAll allocates and frees 256 MiB: half in small blocks, half in large ones.
func useAll() {
	const each = 128 << 20
	for _, size := range []uintptr{4000, 1 << 20} {
		blocks := make([]unsafe.Pointer, each/size)
		for i := range blocks {
			blocks[i] = hakmem.Malloc(size)
			for at := uintptr(0); at < size; at += 4000 {
				*(*byte)(unsafe.Add(blocks[i], at)) = 1
			}
		}
		for _, p := range blocks {
			hakmem.Free(p)
		}
	}
}

// resident returns the bytes of the process that are resident, or 0 where that is not known.
func resident() int {
	n, _ := osmem.ResidentBytes()
	return int(n)
}

// TestStranger is the program of TestStrangers.
func TestStranger(t *testing.T) {
	use := strangers[os.Getenv(strangerVar)]
	if use == nil {
		t.Skip("skipped: for TestStrangers")
	}
	before := resident()
	use(t)
	var s hakmem.Stats
	ends := time.Now().Add(10 * time.Second)
	for {
		if !realtime.SetsInBubble {
			runtime.GC() // in such a build a timer from a bubble waits for a collection
		}
		s = workout.ReadStats()
		if s.Scavenger.Used+s.Scavenger.Dirty < 10<<20 && !s.Scavenger.Running {
			break
		}
		if time.Now().After(ends) {
			t.Fatalf("after 10 s %d bytes are in use and %d dirty, after %d ticks; running: %v", s.Scavenger.Used, s.Scavenger.Dirty, s.Scavenger.Ticks, s.Scavenger.Running)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s.Scavenger.Ticks == 0 {
		t.Error("no tick")
	}
	limit := 10 << 20
	if strings.HasSuffix(os.Getenv(strangerVar), "at once") {
		limit *= 3 // up to six times as much was in use, for which there are tables
	}
	if n := resident() - before; n > limit && !testkit.Race && !asan.On { // their shadow memory stays
		t.Errorf("%d bytes more are resident than before", n)
	}
	for try := 0; ; try++ { // a timer's goroutine may still be on its way out
		buf := make([]byte, 1<<16)
		buf = buf[:runtime.Stack(buf, true)]
		if !bytes.Contains(buf, []byte("hakmem/internal/engine")) && !bytes.Contains(buf, []byte("hakmem/internal/realtime")) {
			break
		}
		if try == 1000 {
			t.Errorf("a goroutine of hakmem's is left:\n%s", buf)
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := hakmem.CheckInvariants(); err != nil {
		t.Error(err)
	}
	if err := hakmem.Err(); err != nil && !strings.Contains(err.Error(), "the Heap at 0x") {
		t.Error(err)
	}
}

func TestStrangers(t *testing.T) {
	for name := range strangers {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestStranger$")
			cmd.Env = append(os.Environ(), "HAKMEM_DECAY_MS=100", strangerVar+"="+name)
			if testkit.Race {
				cmd.Env = append(cmd.Env, strings.TrimSpace("GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"))
			}
			if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

var _ = testkit.Child("deadlock", deadlock)

// deadlock waits for ever when hakmem has nothing more to return.
func deadlock(string) error {
	useAll()
	for workout.ReadStats().Scavenger.Running {
		time.Sleep(time.Millisecond)
	}
	select {}
}

// TestDeadlockIsSeen: with hakmem at rest the runtime still notices that all goroutines are asleep.
// It does not while any timer is set.
func TestDeadlockIsSeen(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: -race or -asan; with cgo there may be threads that the runtime does not know of")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "HAKMEM_DECAY_MS=100", testkit.ChildEnv("deadlock", ""))
	if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("all goroutines are asleep")) {
		t.Errorf("%v\n%s", err, out)
	}
}
