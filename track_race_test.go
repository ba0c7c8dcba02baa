//go:build race && hakmem_racetrack

package hakmem_test

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// With the tag hakmem_racetrack the race detector sees what goroutines do with the bytes of blocks.

const racyVar = "HAKMEM_TEST_RACY"

// TestRacy is the program that TestRaceIsSeen runs.
func TestRacy(t *testing.T) {
	which := os.Getenv(racyVar)
	if which == "" {
		t.Skip("for TestRaceIsSeen")
	}
	var wg sync.WaitGroup
	for i, size := range racySizes {
		if which != string(rune('0'+i)) {
			continue
		}
		p := hakmem.Malloc(size)
		for range 2 {
			wg.Go(func() { poke(unsafe.Add(p, size/2), 8) })
		}
		wg.Wait()
		hakmem.Free(p)
	}
}

func TestRaceIsSeen(t *testing.T) {
	for i, size := range racySizes {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRacy$")
		cmd.Env = append(os.Environ(), racyVar+"="+string(rune('0'+i)))
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "DATA RACE") || !strings.Contains(string(out), "hakmem_test.poke") {
			t.Errorf("two goroutines write a block of %d bytes, and the race detector says: %v\n%s", size, err, out)
		}
	}
}
