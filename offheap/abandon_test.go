package offheap_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/offheap"
)

//go:noinline
func dropBuffers(n int) {
	for range n {
		b := new(offheap.Buffer)
		fmt.Fprint(b, string(text(5000)))
		var released, reset, unused offheap.Buffer
		released.WriteString("released")
		released.Release()
		reset.Reset()
		unused.Len()
	}
}

//go:noinline
func dropInterners(n int) {
	for range n {
		in := offheap.NewInterner()
		in.Intern("dropped")
		closed := offheap.NewInterner()
		closed.Intern("closed")
		closed.Close()
		offheap.NewInterner() // never used, so not counted
	}
}

// abandoned runs the garbage collector until so many were abandoned and no block is left.
func abandoned(want offheap.AbandonedStats) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		got, left := offheap.ReadAbandoned(), liveBlocks()
		if got == want && left == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("abandoned: %+v, want %+v; %d live blocks", got, want, left)
		}
	}
}

func reports(want ...string) error {
	text := fmt.Sprint(hakmem.Err())
	for _, w := range want {
		if !strings.Contains(text, w) {
			return fmt.Errorf("no %q in %q", w, text)
		}
	}
	return nil
}

// TestAbandoned: what is dropped is freed, counted and reported, with the stack where one is recorded.
func TestAbandoned(t *testing.T) {
	const none, function = "a function that was not recorded", "called by github.com/hakmem/hakmem/offheap_test.dropBuffers ("
	for _, x := range []struct{ by, want, setting string }{
		{"", none, "HAKMEM_HARDEN=0"},
		{"", none, "HAKMEM_HARDEN=1"},
		{"", function, "HAKMEM_GUARD=1"},
		{"RecordStacks", function, "HAKMEM_HARDEN=0"},
		{"NoLeaks", function, "HAKMEM_HARDEN=0"},
	} {
		testkit.InChild(t, "abandoned", x.by+":"+x.want, x.setting)
	}
}

var _ = testkit.Child("abandoned", func(arg string) error {
	by, want, _ := strings.Cut(arg, ":")
	switch by {
	case "RecordStacks":
		if offheap.RecordStacks(true) || !offheap.RecordStacks(true) {
			return errors.New("RecordStacks does not return what was set")
		}
	case "NoLeaks":
		hakmemtest.NoLeaks(&endless{})
	}
	var kept offheap.Buffer
	dropBuffers(10)
	if err := abandoned(offheap.AbandonedStats{Buffers: 10}); err != nil {
		return err
	}
	dropInterners(5)
	if err := abandoned(offheap.AbandonedStats{Buffers: 10, Interners: 5}); err != nil {
		return err
	}
	var s hakmem.Stats
	if hakmem.ReadStats(&s); s.Abandoned.Arenas != 0 { // they are the Interners' own
		return fmt.Errorf("%d Arenas count as dropped", s.Abandoned.Arenas)
	}
	if err := reports("a Buffer", "an Interner", "Release each Buffer", "Close each Interner", want); err != nil {
		return err
	}
	kept.WriteString("kept")
	runtime.GC()
	if kept.String() != "kept" {
		return errors.New("a Buffer that is reachable was freed")
	}
	kept.Release()
	return nil
})

// endless is a testing.TB whose test does not end.
type endless struct{ testing.TB }

func (*endless) Helper()        {}
func (*endless) Cleanup(func()) {}

// TestAbandonedAfterMisuse: if the program has freed a Buffer's memory, its cleanup does not end the
// process, and the error is reported.
func TestAbandonedAfterMisuse(t *testing.T) { testkit.InChild(t, "abandoned after misuse", "") }

var _ = testkit.Child("abandoned after misuse", func(string) error {
	func() {
		b := new(offheap.Buffer)
		b.WriteString("x")
		hakmem.FreeBytes(b.Bytes())
	}()
	if err := abandoned(offheap.AbandonedStats{Buffers: 1}); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // it is counted first
		err := reports("freeing a Buffer that was dropped", "double free")
		if err == nil || time.Now().After(end) {
			return err
		}
	}
})
