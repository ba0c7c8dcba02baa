package hakmempprof

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/testkit"
)

// loses and forgets allocate what the lists show.
//
//go:noinline
func loses(n int, size uintptr) (blocks []unsafe.Pointer) {
	for range n {
		blocks = append(blocks, hakmem.Malloc(size))
	}
	return blocks
}

//go:noinline
func forgets(s hakmem.Site) unsafe.Pointer { return hakmem.MallocAt(s, 100) }

func leaksText() (string, error) {
	var b bytes.Buffer
	err := WriteLeaks(&b)
	return b.String(), err
}

// groupOf returns the part of a list that is about blocks of a function.
func groupOf(text, function string) string {
	for _, g := range regexp.MustCompile(`(?m)^\S`).Split(text, -1) {
		if strings.Contains(g, "hakmempprof."+function+"\n") {
			return g
		}
	}
	return ""
}

var _ = testkit.Child("leaks", listsLeaks)

// listsLeaks: each block that is live is listed once, under where it was allocated, and no other is.
func listsLeaks(string) error {
	if text, err := leaksText(); err != nil || text != "hakmem: no block is live\n" {
		return fmt.Errorf("of nothing: %q, %v", text, err)
	}
	clock := new(testkit.Clock)
	engine.SetClock(clock)
	defer engine.SetClock(nil)
	for _, p := range loses(10, 3000) {
		hakmem.Free(p) // not listed
	}
	s := hakmem.RegisterSite("forgetful")
	var lost []unsafe.Pointer
	var sited unsafe.Pointer
	for i := range 3 { // one line, so that the stacks are equal
		lost = append(lost, loses(1, 5000)...)
		if i == 0 {
			clock.Skip(2 * time.Hour)
			sited = forgets(s)
			clock.Skip(90 * time.Second)
		}
	}
	hakmem.Free(lost[1])
	first, last := lost[0], lost[2]
	a := hakmem.NewArenaAt(s)
	a.Alloc(1000, 8)
	clock.Skip(3 * time.Millisecond)

	text, err := leaksText()
	if err != nil {
		return err
	}
	total := uint64(0)
	blocks := 0
	for b := range hakmem.LiveBlocks() {
		total += uint64(b.Size)
		blocks++
		if b.Stack == nil {
			return fmt.Errorf("LiveBlocks has no stack of %+v", b)
		}
	}
	size := func(p unsafe.Pointer) uint64 { // as the blocks are listed
		for b := range hakmem.LiveBlocks() {
			if b.Addr == uintptr(p) {
				return uint64(b.Size)
			}
		}
		return 0
	}
	if blocks != 4 || !strings.HasPrefix(text, fmt.Sprintf("hakmem: live: 4 blocks of %d bytes together\n", total)) {
		return fmt.Errorf("%d blocks of %d bytes are live, and the list is\n%s", blocks, total, text)
	}
	for function, want := range map[string][]string{
		"loses": {
			fmt.Sprintf(" blocks of %d bytes together, allocated by\n", size(first)+size(last)),
			"hakmempprof.listsLeaks", "leaks_test.go:",
			fmt.Sprintf("the oldest: %p of %d bytes, 2h1m30s old\n", first, size(first)),
			fmt.Sprintf("the newest: %p of %d bytes, 3ms old\n", last, size(last)),
		},
		"forgets": {
			fmt.Sprintf(" block of %d bytes, site \"forgetful\", allocated by\n", size(sited)),
			fmt.Sprintf("    %p of %d bytes, 1m30s old\n", sited, size(sited)),
		},
		"listsLeaks": {"in Arenas, site \"forgetful\", allocated by\n"},
	} {
		group := groupOf(text, function)
		if function == "listsLeaks" {
			group = text
		}
		for _, w := range want {
			if !strings.Contains(group, w) {
				return fmt.Errorf("no %q of %s in\n%s", w, function, text)
			}
		}
	}
	for _, never := range []string{"hakmem.Malloc", "internal/engine", "runtime.main"} {
		if strings.Contains(text, never) {
			return fmt.Errorf("%q is in\n%s", never, text)
		}
	}
	if x := hakmem.ExplainAddress(uintptr(first)); !strings.Contains(x, "allocated at leaks_test.go:") {
		return fmt.Errorf("ExplainAddress: %s", x)
	}
	hakmem.Free(first)
	hakmem.Free(last)
	hakmem.Free(sited)
	a.Close()
	if text, err := leaksText(); err != nil || text != "hakmem: no block is live\n" {
		return fmt.Errorf("all is freed: %q, %v", text, err)
	}
	return hakmem.CheckInvariants()
}

func TestLeaks(t *testing.T) { exact(t, "leaks", "") }

// TestLeaksInModes: where blocks are made in other ways, too.
func TestLeaksInModes(t *testing.T) {
	needProfile(t)
	for _, setting := range []string{"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1"} {
		testkit.InChild(t, "leaks", "", "HAKMEM_PROFILE_RATE=1", setting)
	}
}

var _ = testkit.Child("estimated leaks", estimatesLeaks)

// estimatesLeaks: with samples the sum is exact, and the groups stand for about what there is.
func estimatesLeaks(string) error {
	blocks := loses(20_000, 1000)
	text, err := leaksText()
	if err != nil {
		return err
	}
	all := uint64(len(blocks)) * uint64(hakmem.UsableSize(blocks[0]))
	if !asan.On && !strings.HasPrefix(text, fmt.Sprintf("hakmem: live: %d blocks of %d bytes together; ", len(blocks), all)) {
		return fmt.Errorf("%d blocks of %d bytes are live, and the list is\n%s", len(blocks), all, text)
	}
	m := regexp.MustCompile(`(?m)^about (\d+) blocks of (\d+) bytes together, allocated by\n.*hakmempprof\.loses\n`).FindStringSubmatch(text)
	var n float64
	if m != nil {
		fmt.Sscan(m[1], &n)
	}
	// About 2500 samples are expected, so 5 σ are 10 %.
	if n < 18_000 || n > 22_000 {
		return fmt.Errorf("%d blocks are estimated as %v:\n%s", len(blocks), n, text)
	}
	for _, p := range blocks {
		hakmem.Free(p)
	}
	return nil
}

func TestEstimatedLeaks(t *testing.T) {
	needProfile(t)
	testkit.InChild(t, "estimated leaks", "", "HAKMEM_PROFILE_RATE=8192")
}

var _ = testkit.Child("leaks to a failing writer", func(string) error {
	defer hakmem.Free(hakmem.Malloc(10))
	if err := WriteLeaks(&failing{5}); !errors.Is(err, errFull) {
		return fmt.Errorf("a writer that is full: %v", err)
	}
	return nil
})

func TestLeaksToFailingWriter(t *testing.T) { exact(t, "leaks to a failing writer", "") }

func TestAges(t *testing.T) {
	for age, want := range map[time.Duration]string{
		0:                             "0s",
		123456 * time.Nanosecond:      "120µs",
		12345678 * time.Nanosecond:    "12.35ms",
		1234567 * time.Microsecond:    "1.235s",
		75*time.Minute + 1234567*1000: "1h15m1s",
		59*time.Second + 999_999_999:  "1m0s",
	} {
		if got := (leaked{0x10, 48, age}).String(); got != "0x10 of 48 bytes, "+want+" old" {
			t.Errorf("%v is %q, want %s", age, got, want)
		}
	}
}
