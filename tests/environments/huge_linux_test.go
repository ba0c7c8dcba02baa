package environments_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"golang.org/x/sys/unix"
)

// Huge pages of the system. khugepaged, a thread of the kernel, makes huge pages of memory that was
// returned in part, and so brings it back. On a busy machine it takes minutes for that. So most cases
// do the same themselves, with the kernel's MADV_COLLAPSE; one waits for khugepaged, which then works
// a thousand times as fast as usual.

const (
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

// canary is memory of the test's own, of which each 2 MiB has one page in use and khugepaged may make
// a huge page. khugepaged goes through a process from low addresses to high ones, and the canary lies
// above hakmem's region if it was mapped first.
type canary []byte

func newCanary() (canary, error) {
	b, err := unix.Mmap(-1, 0, 16*mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	return b, canary(b).set()
}

// set returns the memory of the canary, except for one page of each 2 MiB.
func (c canary) set() error {
	for _, advice := range []int{unix.MADV_DONTNEED, unix.MADV_NOHUGEPAGE} {
		if err := unix.Madvise(c, advice); err != nil {
			return err
		}
	}
	for i := 0; i < len(c); i += mib {
		c[i] = 1
	}
	return unix.Madvise(c, unix.MADV_HUGEPAGE)
}

// filled reports whether khugepaged has filled the canary.
func (c canary) filled() bool {
	var look osmem.Look
	if osmem.BeginLook(&look) != nil {
		return false
	}
	defer look.Close()
	n, known := look.Resident(mem.Addr(unsafe.Pointer(unsafe.SliceData(c))), mem.Bytes(len(c)))
	for i := 0; i < len(c); i += mib {
		c[i]++ // khugepaged leaves alone what is not used
	}
	return known && n > mem.Bytes(len(c))/2
}

// afterScan waits until khugepaged was through this process's memory, and wants the process to have at
// most so many resident MiB then. What khugepaged was in the middle of does not count. touch uses the
// memory that it is to find in use. If khugepaged does not come in 8 s and the process is no larger,
// the case has shown nothing.
func (c canary) afterScan(most int, touch func()) error {
	for range 2 {
		if err := c.set(); err != nil {
			return err
		}
		for began := time.Now(); !c.filled(); time.Sleep(10 * time.Millisecond) {
			touch()
			if time.Since(began) > 8*time.Second {
				fmt.Println("khugepaged:", testkit.NotReached)
				return within("without khugepaged", most)
			}
		}
	}
	return within("after khugepaged", most)
}

// residentMiB returns the resident MiB of this process.
func residentMiB() int { return resident() / mib }

// workingSet is a set of blocks that are all written.
type workingSet struct {
	blocks []block
}

type block struct {
	p    unsafe.Pointer
	size uintptr
}

// newWorkingSet makes room for the list of all blocks, so that the Go heap stays what it is.
func newWorkingSet() *workingSet { return &workingSet{make([]block, 0, 1<<20)} }

// fill allocates total bytes in blocks of size bytes and writes them.
func (w *workingSet) fill(total, size uintptr) {
	for range total / size {
		p := hakmem.Malloc(size)
		b := unsafe.Slice((*byte)(p), size)
		for i := uintptr(0); i < size; i += 4096 {
			b[i] = 7
		}
		*(*uintptr)(p) = uintptr(p)
		w.blocks = append(w.blocks, block{p, size})
	}
}

// mixed fills 128 MiB with each of several sizes and keeps each n-th block.
func (w *workingSet) mixed(n int) {
	for _, size := range []uintptr{256, 4096, 24000, 65536, 1 << 20, 6 * mib} {
		w.fill(128*mib, size)
	}
	w.thin(n)
}

// thin frees all blocks except each n-th.
func (w *workingSet) thin(n int) {
	kept := w.blocks[:0]
	for i, b := range w.blocks {
		if i%n == 0 {
			kept = append(kept, b)
		} else {
			hakmem.Free(b.p)
		}
	}
	w.blocks = kept
}

// touch reads the blocks.
func (w *workingSet) touch() {
	for _, b := range w.blocks {
		if *(*uintptr)(b.p) != uintptr(b.p) {
			panic(fmt.Sprintf("the block of %d bytes at %p has lost its contents", b.size, b.p))
		}
	}
}

// live returns the MiB that the blocks need at least, in OS pages, and the program itself with the
// list of the blocks, which was larger.
func (w *workingSet) live() int {
	n := uintptr(16 * mib)
	for _, b := range w.blocks {
		n += max(b.size, 4096)
	}
	return int(n/mib) + 1
}

// within wants the process to have at most so many resident MiB.
func within(when string, most int) error {
	n := residentMiB()
	fmt.Printf("%s: %d MiB resident, at most %d wanted\n", when, n, most)
	if n > most {
		return fmt.Errorf("%s: %d MiB are resident, want at most %d", when, n, most)
	}
	return nil
}

// collapse makes huge pages of all of the process's memory that may have them, except Go's: as
// khugepaged would, in every 2 MiB of which some page is resident.
func collapse() error {
	const madvCollapse = 25 // since Linux 6.1
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	collapsed := 0
	for line := range strings.Lines(string(maps)) {
		var low, high uintptr
		var flags string
		f := strings.Fields(line)
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &low, &high, &flags); n < 3 || flags != "rw-p" {
			continue
		}
		// Where mappings have no names, Go's heap is known by its address.
		if named := len(f) > 5 && f[5] != "[anon:hakmem:"; named || low>>32 == 0xc0 {
			continue
		}
		for at := (low + 2*mib - 1) &^ (2*mib - 1); at+2*mib <= high; at += 2 * mib {
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, at, 2*mib, madvCollapse); errno == 0 {
				collapsed++
			}
		}
	}
	if collapsed == 0 {
		fmt.Println("no huge page could be made:", testkit.NotReached)
	}
	fmt.Println(collapsed, "huge pages made")
	return nil
}

// trimmed calls Trim, fills what may be filled, and wants no more than live and 40 MiB to be resident
// before and after it.
func (w *workingSet) trimmed() error {
	hakmem.Trim()
	most := w.live() + 40
	if os.Getenv("HAKMEM_HARDEN") == "1" {
		most += 8 // blocks are larger by their seals
	}
	if err := within("after Trim", most); err != nil {
		return err
	}
	if err := collapse(); err != nil {
		return err
	}
	w.touch()
	return within("after all huge pages were made", most)
}

// withSet registers a case that has a working set.
func withSet(name string, run func(w *workingSet) error) struct{} {
	return testkit.Child("huge pages, "+name, func(string) error { return run(newWorkingSet()) })
}

var _ = withSet("khugepaged", func(w *workingSet) error {
	c, err := newCanary()
	if err != nil {
		return err
	}
	w.fill(1024*mib, 4096)
	w.thin(33)
	time.Sleep(6 * time.Second)
	after6 := residentMiB()
	if err := within("after 6 s", w.live()+16+40); err != nil { // 16 MiB are the canary
		return err
	}
	return c.afterScan((after6+16)*12/10, w.touch)
})

var _ = withSet("default gates", func(w *workingSet) error {
	w.fill(1024*mib, 4096)
	w.thin(33)
	time.Sleep(6 * time.Second)
	after6 := residentMiB()
	if err := within("after 6 s", w.live()+40); err != nil {
		return err
	}
	if err := collapse(); err != nil {
		return err
	}
	w.touch()
	return within("after all huge pages were made", after6*12/10)
})

var _ = withSet("sparse", func(w *workingSet) error {
	w.mixed(33)
	return w.trimmed()
})

var _ = withSet("sawtooth", func(w *workingSet) error {
	for range 4 {
		w.mixed(20)
		hakmem.Trim()
	}
	if err := w.trimmed(); err != nil {
		return err
	}
	w.thin(1 << 30) // the first block stays
	return w.trimmed()
})

// What was returned before the system made huge pages is filled. Trim finds it, whatever the mode is
// by then.
var _ = withSet("filled", func(w *workingSet) error {
	w.mixed(33)
	hakmem.Trim()
	before := residentMiB()
	if err := collapse(); err != nil {
		return err
	}
	fmt.Printf("%d MiB resident before, %d after the system made huge pages\n", before, residentMiB())
	w.touch()
	hakmem.Trim()
	return within("after the next Trim", w.live()+40)
})

// TestReturnedMemoryStaysReturned: what was returned stays returned where huge pages come without
// being asked for.
func TestReturnedMemoryStaysReturned(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: the shadow memory of -race and -asan is resident too")
	}
	for _, c := range []struct{ mode, name, setting string }{
		{"always", "khugepaged", ""},
		{"always", "default gates", ""},
		{"always", "sparse", ""},
		{"always", "sparse", "HAKMEM_HARDEN=1"},
		{"always", "sawtooth", ""},
		{"", "sparse", "HAKMEM_THP=always"},
		{"", "filled", ""},
	} {
		t.Run(strings.Trim(c.mode+", "+c.name+", "+c.setting, ", "), func(t *testing.T) {
			if c.name == "khugepaged" && testing.Short() {
				t.Skip("skipped: -short")
			}
			switch mode := osmem.HugePageMode(); {
			case c.mode != "":
				hugePages(t, c.mode)
			case mode == "never" || mode == "":
				t.Skipf("skipped: the system makes no huge pages (mode %q)", mode)
			}
			if !testkit.InChild(t, "huge pages, "+c.name, "", strings.Fields(c.setting)...) {
				t.Skip("skipped: khugepaged did not come in 8 s, or the kernel cannot be asked for huge pages")
			}
		})
	}
}

// What is used a little has memory where it is used, and not 2 MiB around it. arg is the number of
// Heaps.
var _ = testkit.Child("huge pages, small", func(arg string) error {
	n, most := 0, 0
	if _, err := fmt.Sscanf(arg, "%d %d", &n, &most); err != nil {
		return err
	}
	hakmem.Free(hakmem.Malloc(16))
	hakmem.Free(hakmem.MallocAt(hakmem.RegisterSite("here"), 16))
	blocks := make([]*byte, n)
	for i := range blocks {
		h := hakmem.NewHeap()
		defer h.Close()
		blocks[i] = (*byte)(h.Malloc(100))
	}
	if err := collapse(); err != nil {
		return err
	}
	for _, b := range blocks {
		*b++
	}
	return within(fmt.Sprint(n, " heaps"), most)
})

// TestTablesStaySmall: hakmem's tables have memory where they are used.
func TestTablesStaySmall(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: the shadow memory of -race and -asan is resident too")
	}
	for _, arg := range []string{"0 24", "100 64"} {
		t.Run(strings.ReplaceAll(arg, " ", "-"), func(t *testing.T) {
			hugePages(t, "always")
			if !testkit.InChild(t, "huge pages, small", arg) {
				t.Skip("skipped: the kernel cannot be asked for huge pages")
			}
		})
	}
}
