//go:build race && !hakmem_racetrack

package environments_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Programs built with -race: the instrument must not change what it looks at.

var _ = testkit.Child("garbage", garbage)

var sink []byte

// garbage makes 600 MiB of Go garbage with 16 MiB alive, after a use of hakmem or none. It writes
// the number of collections and the peak of resident bytes to a file. arg is "FILE with" or "FILE
// without".
func garbage(arg string) error {
	file, with, _ := strings.Cut(arg, " ")
	if with == "with" {
		p := hakmem.Malloc(100)
		if p == nil {
			return hakmem.Err()
		}
		defer hakmem.Free(p)
	}
	alive := make([][]byte, 16)
	for i := range 600 {
		sink = make([]byte, 1<<20)
		for at := 0; at < len(sink); at += 4096 {
			sink[at] = 1
		}
		alive[i%len(alive)] = sink
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	peak, err := status("VmHWM")
	if err != nil {
		return err
	}
	return os.WriteFile(file, fmt.Appendf(nil, "%d %d", m.NumGC, peak), 0o600)
}

// TestCollectionsUnderRace: in a race build, one block does not change how often the collector
// runs, nor how much memory the process takes.
func TestCollectionsUnderRace(t *testing.T) {
	for _, limit := range []string{"off", "200MiB"} {
		t.Run(limit, func(t *testing.T) {
			measure := func(with string) (collections, peak float64) {
				file := filepath.Join(t.TempDir(), "result")
				testkit.InChild(t, "garbage", file+" "+with, "GOMEMLIMIT="+limit)
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := fmt.Sscan(string(b), &collections, &peak); err != nil {
					t.Fatal(err)
				}
				return collections, peak
			}
			c0, p0 := measure("without")
			c1, p1 := measure("with")
			t.Logf("without hakmem %.0f collections, peak %.0f MiB; with it %.0f, %.0f", c0, p0/1e6, c1, p1/1e6)
			if ratio := c1 / c0; math.Max(ratio, 1/ratio) > 2 || c0 == 0 {
				t.Errorf("%.0f collections, %.0f without hakmem", c1, c0)
			}
			if p1 > 2*p0 {
				t.Errorf("a peak of %.0f bytes, %.0f without hakmem", p1, p0)
			}
		})
	}
}

// TestPointersFromIntegers: checkptr, which -race switches on, does not object to pointers into
// blocks that a program makes from integers, as translated C does.
func TestPointersFromIntegers(t *testing.T) {
	for _, size := range []uintptr{64, 3000, 100_000, 8 << 20} {
		block := uintptr(hakmem.Malloc(size))
		for _, at := range []uintptr{0, 8, size / 2, size - 8} {
			*(*uint64)(unsafe.Pointer(block + at&^7)) = uint64(at)
		}
		numbers := [2]uintptr{block, size/2&^7 - 16} // as a struct of translated C
		at := (*[2]uint64)(unsafe.Pointer(numbers[0] + numbers[1] + 16))
		if at[0] != uint64(size/2) {
			t.Errorf("%d bytes: read %d", size, at[0])
		}
		hakmem.Free(unsafe.Pointer(block))
	}
}
