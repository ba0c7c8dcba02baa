package environments_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Huge pages of the system. khugepaged, a thread of the kernel, makes huge pages of memory that was
// returned in part, and so brings it back. Here it works a thousand times as fast as usual.

const (
	mib       = 1 << 20
	thpFolder = "/sys/kernel/mm/transparent_hugepage/"
)

// hugePages sets the system's mode for huge pages and hurries khugepaged, until the test ends.
func hugePages(t *testing.T, mode string) {
	t.Helper()
	if _, err := os.Stat(thpFolder); err != nil {
		t.Skip("skipped: the system has no huge pages: ", err)
	}
	for _, setting := range [][2]string{
		{"enabled", mode}, {"khugepaged/defrag", "1"}, {"khugepaged/max_ptes_none", "511"},
		{"khugepaged/scan_sleep_millisecs", "10"}, {"khugepaged/alloc_sleep_millisecs", "10"},
		{"khugepaged/pages_to_scan", "65536"},
	} {
		file := thpFolder + setting[0]
		old, err := os.ReadFile(file)
		if err != nil {
			t.Skip("skipped: the settings for huge pages cannot be read: ", err)
		}
		was := strings.TrimSpace(string(old))
		if _, rest, ok := strings.Cut(was, "["); ok {
			was, _, _ = strings.Cut(rest, "]")
		}
		if err := os.WriteFile(file, []byte(setting[1]), 0); err != nil {
			t.Skip("skipped: the settings for huge pages cannot be changed: ", err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(file, []byte(was), 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// scans returns how often khugepaged has been through all memory.
func scans() int {
	b, _ := os.ReadFile(thpFolder + "khugepaged/full_scans")
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// scanned waits until khugepaged was through all memory three times, which is more than it does in a
// minute by default, or for 20 seconds.
func scanned() error {
	first := scans()
	for range 2000 {
		if scans() >= first+3 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("khugepaged was through all memory %d times in 20 s", scans()-first)
}

// resident returns the resident MiB of this process.
func resident() int {
	n, _ := osmem.ResidentBytes()
	return int(n / mib)
}

// workingSet is a set of blocks that are all written.
type workingSet struct {
	size   uintptr
	blocks []unsafe.Pointer
}

// fill allocates blocks of size bytes until they have total bytes, and writes them.
func (w *workingSet) fill(total, size uintptr) {
	w.size = size
	for range total/size - uintptr(len(w.blocks)) {
		p := hakmem.Malloc(size)
		b := unsafe.Slice((*byte)(p), size)
		for i := uintptr(0); i < size; i += 4096 {
			b[i] = 7
		}
		binary.LittleEndian.PutUint64(b[:8], uint64(uintptr(p)))
		w.blocks = append(w.blocks, p)
	}
}

// thin frees all blocks except each n-th.
func (w *workingSet) thin(n int) {
	kept := w.blocks[:0]
	for i, p := range w.blocks {
		if i%n == 0 {
			kept = append(kept, p)
		} else {
			hakmem.Free(p)
		}
	}
	w.blocks = kept
}

// whole reports whether the blocks have their contents.
func (w *workingSet) whole() error {
	for _, p := range w.blocks {
		if *(*uint64)(p) != uint64(uintptr(p)) {
			return fmt.Errorf("the block of %d bytes at %p has lost its contents", w.size, p)
		}
	}
	return nil
}

// live returns the MiB that the blocks need at least, in OS pages.
func (w *workingSet) live() int {
	return int(max(w.size, 4096)*uintptr(len(w.blocks))/mib) + 1
}

// within wants the process to have at most so many resident MiB.
func within(when string, most int) error {
	n := resident()
	fmt.Printf("%s: %d MiB resident, at most %d wanted\n", when, n, most)
	if n > most {
		return fmt.Errorf("%s: %d MiB are resident, want at most %d", when, n, most)
	}
	return nil
}

// trimmed calls Trim, lets khugepaged work, and wants no more than live and 40 MiB to be resident
// before and after it.
func (w *workingSet) trimmed() error {
	hakmem.Trim()
	if err := within("after Trim", w.live()+40); err != nil {
		return err
	}
	if err := scanned(); err != nil {
		return err
	}
	if err := within("after khugepaged", w.live()+40); err != nil {
		return err
	}
	return w.whole()
}

// sparse parses "total MiB, size, n" and returns a set with each n-th block alive.
func sparse(arg string) *workingSet {
	var total, size uintptr
	var n int
	if _, err := fmt.Sscanf(arg, "%d %d %d", &total, &size, &n); err != nil {
		panic(err)
	}
	w := new(workingSet)
	w.fill(total*mib, size)
	w.thin(n)
	return w
}

var _ = testkit.Child("huge pages: default gates", func(arg string) error {
	w := sparse(arg)
	time.Sleep(6 * time.Second)
	after6 := resident()
	if err := within("after 6 s", w.live()+40); err != nil {
		return err
	}
	if err := scanned(); err != nil {
		return err
	}
	if err := within("after khugepaged", after6*12/10); err != nil {
		return err
	}
	if err := w.whole(); err != nil {
		return err
	}
	return w.trimmed()
})

var _ = testkit.Child("huge pages: trimmed", func(arg string) error { return sparse(arg).trimmed() })

var _ = testkit.Child("huge pages: sawtooth", func(arg string) error {
	w := new(workingSet)
	for range 4 {
		w.fill(256*mib, 4096)
		w.thin(20)
		hakmem.Trim()
	}
	if err := w.trimmed(); err != nil {
		return err
	}
	w.thin(1 << 30) // the first block stays
	return w.trimmed()
})

// turnedOn returns memory before the system makes huge pages. Then it does, and fills what it finds.
var _ = testkit.Child("huge pages: turned on", func(arg string) error {
	w := sparse(arg)
	hakmem.Trim()
	before := resident()
	if err := os.WriteFile(thpFolder+"enabled", []byte("always"), 0); err != nil {
		return err
	}
	// The kernel learns of a process when it maps memory.
	if b, err := osmem.Reserve(4*mib, false); err != nil || osmem.Commit(b, 4*mib) != nil {
		return fmt.Errorf("no memory: %v", err)
	}
	w.fill(uintptr(len(w.blocks)+1000)*w.size, w.size)
	if err := scanned(); err != nil {
		return err
	}
	fmt.Printf("%d MiB resident before, %d after huge pages were turned on\n", before, resident())
	return w.trimmed()
})

// TestReturnedMemoryStaysReturned: what was returned stays returned where huge pages come without
// being asked for.
func TestReturnedMemoryStaysReturned(t *testing.T) {
	for _, c := range []struct {
		mode, name, arg string
		settings        []string
	}{
		{"always", "default gates", "1024 4096 33", nil},
		{"always", "trimmed", "512 4096 33", nil},
		{"always", "trimmed", "256 64 5000", nil},    // EMPTY slabs, whose pages and live map are returned
		{"always", "trimmed", "512 24000 40", nil},   // mid
		{"always", "trimmed", "512 65536 17", nil},   // large
		{"always", "trimmed", "512 1500000 7", nil},  // large
		{"always", "trimmed", "1024 6000000 5", nil}, // huge
		{"madvise", "trimmed", "512 4096 33", []string{"HAKMEM_THP=always"}},
		{"madvise", "trimmed", "512 65536 17", []string{"HAKMEM_THP=always"}},
		{"always", "trimmed", "512 4096 33", []string{"HAKMEM_HARDEN=1"}},
		{"always", "sawtooth", "", nil},
		{"madvise", "turned on", "512 4096 33", nil},
		{"madvise", "turned on", "512 65536 17", nil},
	} {
		t.Run(strings.Join(append([]string{c.mode, c.name, strings.ReplaceAll(c.arg, " ", "-")}, c.settings...), "/"), func(t *testing.T) {
			hugePages(t, c.mode)
			testkit.InChild(t, "huge pages: "+c.name, c.arg, c.settings...)
		})
	}
}

// heaps uses so many Heaps and one site, each for one block.
var _ = testkit.Child("huge pages: small", func(arg string) error {
	n, most := 0, 0
	if _, err := fmt.Sscanf(arg, "%d %d", &n, &most); err != nil {
		return err
	}
	hakmem.Free(hakmem.Malloc(16))
	hakmem.Free(hakmem.MallocAt(hakmem.RegisterSite("here"), 16))
	for range n {
		h := hakmem.NewHeap()
		defer h.Close()
		h.Malloc(100)
	}
	if err := scanned(); err != nil {
		return err
	}
	return within(fmt.Sprint(n, " heaps"), most)
})

// TestTablesStaySmall: hakmem's tables have memory where they are used, and not 2 MiB around it.
func TestTablesStaySmall(t *testing.T) {
	for _, arg := range []string{"0 40", "100 80"} {
		t.Run(strings.ReplaceAll(arg, " ", "-"), func(t *testing.T) {
			hugePages(t, "always")
			testkit.InChild(t, "huge pages: small", arg)
		})
	}
}
