package osmem

import (
	"errors"
	"math/bits"
	"os"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/testkit/smaps"
	"golang.org/x/sys/unix"
)

// eachWay runs f once for each way that this system has, with the ways before it denied.
func eachWay(t *testing.T, f func(t *testing.T)) {
	for w, name := range [numWays]string{"mincore", "scan", "pagemap"} {
		t.Run(name, func(t *testing.T) {
			onlyFrom(t, lookWay(w))
			var l Look
			err := BeginLook(&l)
			defer l.Close()
			if err != nil || l.way != lookWay(w) {
				t.Skipf("skipped: not to be had here: %v, and the first way that can be had is %d", err, l.way)
			}
			f(t)
		})
	}
}

// onlyFrom denies the ways before w until the test ends.
func onlyFrom(t *testing.T, w lookWay) {
	var was [numWays]uint32
	for i := range w {
		was[i] = beliefs[i].Swap(denied)
	}
	t.Cleanup(func() {
		for i := range w {
			beliefs[i].Store(was[i])
		}
	})
}

// needsLook skips the test where the system does not tell what is resident.
func needsLook(t *testing.T) {
	t.Helper()
	var l Look
	if err := BeginLook(&l); err != nil {
		t.Skip("skipped: ", err)
	}
	l.Close()
}

func TestResident(t *testing.T) {
	const n = 50
	eachWay(t, func(t *testing.T) {
		for _, c := range []struct {
			name    string
			touched func(page mem.Bytes) bool
			want    mem.Bytes
		}{
			{"none", func(mem.Bytes) bool { return false }, 0},
			{"first", func(p mem.Bytes) bool { return p == 0 }, 1},
			{"last", func(p mem.Bytes) bool { return p == n-1 }, 1},
			{"every third", func(p mem.Bytes) bool { return p%3 == 0 }, 17},
			{"runs", func(p mem.Bytes) bool { return p/7%2 == 1 }, 22},
			{"all", func(mem.Bytes) bool { return true }, n},
		} {
			t.Run(c.name, func(t *testing.T) {
				addr, area := smallPages(t, n)
				for p := range mem.Bytes(n) {
					if c.touched(p) {
						area[p*pageSize] = 1
					}
				}
				before := Calls(OpResident)
				var l Look
				if err := BeginLook(&l); err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				var found [n]bool
				for l.Over(addr+1, n*pageSize-2); l.Next(); { // rounded down and up
					for at := l.Run.Addr; at < l.Run.Addr.Add(l.Run.Size); at = at.Add(pageSize) {
						p := at.From(addr) / pageSize
						if p >= n || found[p] || !c.touched(p) {
							t.Errorf("page %d was found, in a run of %d", p, l.Run.Size/pageSize)
							continue
						}
						found[p] = true
					}
				}
				if got, known := l.Resident(addr, n*pageSize); !known || got != c.want*pageSize {
					t.Errorf("%d pages (known: %t), want %d", got/pageSize, known, c.want)
				}
				for p, is := range found {
					if is != c.touched(mem.Bytes(p)) {
						t.Errorf("page %d was found: %t", p, is)
					}
				}
				if calls := Calls(OpResident) - before; calls != 3 {
					t.Errorf("%d calls counted, want 3: one that begins and two that ask", calls)
				}
			})
		}
	})
}

// TestManyRuns looks at more pages, and at more runs, than there is room for in one answer. Memory that lies
// across the border of two answers is found.
func TestManyRuns(t *testing.T) {
	const n = 3*lookRoom + 5
	eachWay(t, func(t *testing.T) {
		addr, area := smallPages(t, n)
		want := mem.Bytes(0)
		for p := range mem.Bytes(n) {
			if p%2 == 0 || p > lookRoom-3 && p < lookRoom+100 {
				area[p*pageSize] = 1
				want += pageSize
			}
		}
		var l Look
		if err := BeginLook(&l); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if got, known := l.Resident(addr, n*pageSize); !known || got != want {
			t.Errorf("%d bytes are resident (known: %t), want %d", got, known, want)
		}
		last := addr
		for l.Over(addr, n*pageSize); l.Next(); last = l.Run.Addr.Add(l.Run.Size) {
			if l.Run.Addr < last || l.Run.Size == 0 || l.Run.Addr.Add(l.Run.Size) > addr.Add(n*pageSize) {
				t.Fatalf("a run of %d bytes %d bytes behind the beginning, after one that ends %d bytes behind it", l.Run.Size, l.Run.Addr.From(addr), last.From(addr))
			}
		}
	})
}

// TestHugePage: a huge page counts as all of its OS pages, and one of which a part was returned as the rest.
func TestHugePage(t *testing.T) {
	size := HugePageSize()
	if size == 0 {
		t.Skip("skipped: a kernel without huge pages")
	}
	eachWay(t, func(t *testing.T) {
		all := 2 * size
		start, err := Reserve(all)
		if err == nil {
			defer Release(start, all)
			err = Commit(start, all)
		}
		if err != nil {
			t.Fatal(err)
		}
		addr := start.Up(size)
		bytes(addr, size)[0] = 1
		if err := Collapse(addr, size); err != nil {
			t.Skip("skipped: no huge page: ", err)
		}
		want := int(size / pageSize)
		if got, err := look(start, all); err != nil || got != want {
			t.Errorf("%d pages, %v; want %d", got, err, want)
		}
		if err := Discard(addr.Add(3*pageSize), 5*pageSize); err != nil {
			t.Fatal(err)
		}
		if got, err := look(start, all); err != nil || got != want-5 {
			t.Errorf("with 5 pages returned: %d pages, %v; want %d", got, err, want-5)
		}
	})
}

// TestProbe: a way is believed after it has answered rightly of memory that was touched and of memory that was
// not; a file is not believed in another byte order.
func TestProbe(t *testing.T) {
	for _, w := range []lookWay{byScan, byPagemap} {
		if is := tryWay(w, ^uintptr(0)); is != denied { // no file
			t.Errorf("way %d without a file: %d", w, is)
		}
	}
	onlyFrom(t, byPagemap)
	var l Look
	if err := BeginLook(&l); err != nil {
		t.Skip("skipped: ", err)
	}
	defer l.Close()
	if is := tryWay(byPagemap, l.fd); is != believed {
		t.Errorf("this kernel's file: %d", is)
	}
	addr, area := smallPages(t, probePages)
	for p := range mem.Bytes(probePages) {
		area[p*pageSize] = 1
	}
	if _, err := l.count(addr, probePages*pageSize); err != nil {
		t.Fatal(err)
	}
	var swapped [probePages]uint64
	for i, e := range l.room[:probePages] {
		swapped[i] = bits.ReverseBytes64(e)
	}
	if !plausible(l.room[:probePages]) {
		t.Errorf("not believed: %#x", l.room[:probePages])
	}
	if plausible(swapped[:]) {
		t.Errorf("believed: %#x", swapped)
	}
}

// TestWayFails: a look whose way fails in the middle goes on by the next one, and finds the same. What fails by
// a file of its own is not tried again.
func TestWayFails(t *testing.T) {
	needsLook(t)
	const n = 8
	addr, area := smallPages(t, n)
	area[2*pageSize] = 1
	for w := range byPagemap {
		onlyFrom(t, w)
		var l Look
		if err := BeginLook(&l); err != nil || l.way != w {
			l.Close()
			t.Logf("skipped: way %d is not to be had here: %v", w, err)
			continue
		}
		if w == byMincore {
			l.way = byScan // without a file, so that it fails
			l.fd, l.file = 1<<30, false
		} else {
			l.done()
			l.fd = 1 << 30
		}
		was := beliefs[byScan].Load()
		if got, known := l.Resident(addr, n*pageSize); !known || got != pageSize || l.way != byPagemap {
			t.Errorf("from way %d: %d bytes (known: %t), by way %d; want %d by way %d", w, got, known, l.way, pageSize, byPagemap)
		}
		if is := beliefs[byScan].Swap(was); is != denied {
			t.Errorf("after a failure the scan is %d, want denied", is)
		}
		l.Close()
	}
}

// TestResidentChanges checks what the comment of Look says of pages that are only read, of
// discarded ones, and of parts of a range.
func TestResidentChanges(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		const n = 8
		addr, area := smallPages(t, n)
		check := func(what string, first, pages mem.Bytes, want int) {
			t.Helper()
			if got, err := look(addr+mem.Addr(first*pageSize), pages*pageSize); err != nil || got != want {
				t.Errorf("%s: %d pages, %v; want %d", what, got, err, want)
			}
		}
		if area[2*pageSize] != 0 {
			t.Error("fresh memory is not zero")
		}
		check("one page read", 0, n, 1)
		for p := range mem.Bytes(n) {
			area[p*pageSize] = 1
		}
		check("no page", 3, 0, 0)
		if err := Discard(addr+mem.Addr(2*pageSize), 3*pageSize); err != nil {
			t.Fatal(err)
		}
		check("three discarded", 0, n, n-3)
		check("those", 2, 3, 0)
		check("those and the next", 2, 4, 1)
	})
}

// TestResidentLocked: in a process that locks its mappings a way is believed all the same.
func TestResidentLocked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: without root the limit on locked memory may end the process")
	}
	eachWay(t, func(t *testing.T) {
		var l Look
		if err := BeginLook(&l); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := unix.Mlockall(unix.MCL_FUTURE); err != nil {
			t.Skip("skipped: memory cannot be locked: ", err)
		}
		is := tryWay(l.way, l.fd)
		if err := unix.Munlockall(); err != nil {
			t.Fatal(err)
		}
		if is != believed {
			t.Errorf("the probe says %d, want believed", is)
		}
	})
}

// TestLookRefused: a look that is refused when it begins or later says that it does not know, closes
// its file, and counts no failure. Then looks are given up for longer and longer times. With an answer
// that is over.
func TestLookRefused(t *testing.T) {
	needsLook(t)
	defer Inject(nil)
	addr, _ := smallPages(t, 10)
	files := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("skipped: no /proc: ", err)
		}
		return len(d)
	}
	before, failures := files(), Failed()
	for at := 1; at <= 2; at++ {
		calls := 0
		Inject(func(op Op) error {
			if calls++; op == OpResident && calls == at {
				return ErrInjected
			}
			return nil
		})
		if got, err := look(addr, 10*pageSize); got != 0 || !errors.Is(err, ErrNotSupported) || calls != at {
			t.Errorf("refused at call %d: %d pages, %v, %d calls", at, got, err, calls)
		}
	}
	if n := files(); n != before {
		t.Errorf("%d files are open, before there were %d", n, before)
	}
	refuse, calls := true, 0
	Inject(func(op Op) error {
		if calls++; refuse {
			return ErrInjected
		}
		return nil
	})
	const looks = 5000
	for range looks {
		if _, err := look(addr, pageSize); !errors.Is(err, ErrNotSupported) {
			t.Fatal(err)
		}
	}
	if most := 10 + looks/looksSkipped; calls > most || calls < 10 {
		t.Errorf("%d looks that are refused made %d calls, want 10 to %d", looks, calls, most)
	}
	refuse = false
	for i := 0; ; i++ {
		if _, err := look(addr, pageSize); err == nil {
			break
		} else if i > looksSkipped {
			t.Fatalf("%d looks later there is no answer: %v", i, err)
		}
	}
	if _, err := look(addr, pageSize); err != nil {
		t.Errorf("after an answer: %v", err)
	}
	if n := Failed() - failures; n != 0 {
		t.Errorf("%d failures counted", n)
	}
}

// TestNoAllocation checks that measuring memory does not use more of it.
func TestNoAllocation(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		addr, _ := smallPages(t, 64)
		if n := testing.AllocsPerRun(100, func() {
			var l Look
			if err := BeginLook(&l); err != nil {
				t.Error(err)
			}
			if _, known := l.Resident(addr, 64*pageSize); !known {
				t.Error("not known")
			}
			l.Close()
			ResidentBytes()
			ProcessFaults()
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// TestSwapped: a page that is swapped out does not count. While there is one, mincore is not asked, which may
// count it.
func TestSwapped(t *testing.T) {
	const n = 64
	addr, area := smallPages(t, n)
	for p := range mem.Bytes(n) {
		area[p*pageSize] = byte(p + 1)
	}
	if err := unix.Madvise(area[:n/2*pageSize], unix.MADV_PAGEOUT); err != nil {
		t.Skip("skipped: Linux before 5.4: ", err)
	}
	var l Look
	if err := BeginLook(&l); err != nil {
		t.Skip("skipped: ", err)
	}
	defer l.Close()
	if !swapped() {
		t.Skip("skipped: no swap, or the system has swapped nothing out")
	}
	if l.way == byMincore {
		t.Error("mincore is asked")
	}
	if got, known := l.Resident(addr.Add(n/2*pageSize), n/2*pageSize); !known || got != n/2*pageSize {
		t.Errorf("of the pages that were not swapped out %d bytes are resident (known: %t)", got, known)
	}
	if got, known := l.Resident(addr, n/2*pageSize); !known || got > n/4*pageSize { // some may stay
		t.Errorf("of the pages that were swapped out %d bytes are resident (known: %t)", got, known)
	}
}

// TestReadsTakeMemory: what a page says of reads holds for many, by the system's own sum.
func TestReadsTakeMemory(t *testing.T) {
	const size = 16 << 20
	addr, err := Reserve(size)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(addr, size)
	if err := Commit(addr, size); err != nil {
		t.Fatal(err)
	}
	if err := HugePages(addr, size, false); err != nil {
		t.Log(err) // a kernel without huge pages
	}
	sum := byte(0)
	for p := mem.Bytes(0); p < size; p += PageSize() {
		sum += bytes(addr, size)[p]
	}
	m, found, err := smaps.At(addr)
	if err != nil || !found || sum != 0 {
		t.Fatalf("%v, %v, %d", err, found, sum)
	}
	if takes, known := readTakesMemory(); known && takes != (m.Resident >= size/2) {
		t.Errorf("reads take memory: %v; 16 MiB that were read have %d KiB", takes, m.Resident>>10)
	} else if !known && !ReadsTakeMemory() {
		t.Error("it is not known whether reads take memory, and ReadsTakeMemory reports that they do not")
	} else {
		t.Logf("reads take memory: %v, known: %v", takes, known)
	}
}
