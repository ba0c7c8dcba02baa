//go:build hakmem_check

package check_test

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestPinned enters and leaves while pinned, on all Ps, while the world is stopped again and again.
// A call that blocked would hang the test or be fatal.
func TestPinned(t *testing.T) {
	var wg sync.WaitGroup
	var shard check.Mutex[check.Shard]
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := range 20_000 {
				if n%64 == 0 {
					runtime.Gosched() // a loop that is pinned most of the time is seldom preempted
				}
				engine.Pin()
				check.Enter()
				check.MustBeEntered("test")
				if check.Held(&shard) {
					t.Error("a lock is held that was not taken")
				}
				check.Leave()
				check.MustNotBeEntered("test")
				engine.Unpin()
			}
		})
	}
	for range 20 {
		runtime.GC()
	}
	wg.Wait()
	if n := testing.AllocsPerRun(1000, func() {
		engine.Pin()
		check.Enter()
		check.Leave()
		engine.Unpin()
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

var _ = testkit.Child("lock while pinned and entered", func(string) error {
	var region check.Mutex[check.Region]
	engine.Pin()
	check.Enter()
	region.Lock()
	return nil
})

// TestPinnedFailure: a goroutine that is pinned cannot panic, but the process still ends with the
// message.
func TestPinnedFailure(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), testkit.ChildEnv("lock while pinned and entered", ""))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "panic: hakmem: check: region.mu is taken while entered") {
		t.Errorf("%v, want the message in\n%s", err, out)
	}
}
