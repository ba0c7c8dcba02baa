package osmem

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/testkit/smaps"
	"golang.org/x/sys/unix"
)

var pageSize = mem.Bytes(os.Getpagesize())

// smallPages returns n committed pages that will never be part of a huge page, whatever the
// system's setting is, so that each can be touched separately.
func smallPages(t *testing.T, n mem.Bytes) (addr mem.Addr, area []byte) {
	t.Helper()
	size := (n*pageSize + 0xffff) &^ 0xffff
	addr, err := Reserve(size)
	if err == nil {
		t.Cleanup(func() { Release(addr, size) })
		err = Commit(addr, size)
	}
	if err == nil && HugePageMode() != "" {
		err = HugePages(addr, size, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return addr, bytes(addr, n*pageSize)
}

// TestDiscardLocked: locked memory is returned, whether alone, amid other memory, or with many other
// ranges. It stays locked.
func TestDiscardLocked(t *testing.T) {
	if !smaps.TakesAdvice() {
		t.Skip("skipped: an emulator, which takes advice and does nothing")
	}
	const n = 64
	for _, lock := range []struct {
		name string
		lock func(b []byte) error
	}{
		{"mlock", unix.Mlock},
		{"on fault", func(b []byte) error {
			_, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MLOCK_ONFAULT)
			if errno != 0 {
				return errno
			}
			return nil
		}},
	} {
		addr, area := smallPages(t, n)
		touch := func() {
			for p := range mem.Bytes(n) {
				area[p*pageSize] = 1
			}
		}
		touch()
		if err := lock.lock(area[8*pageSize : 12*pageSize]); err != nil {
			t.Skipf("skipped: %s: %v", lock.name, err)
		}
		if unix.Madvise(area[8*pageSize:12*pageSize], unix.MADV_DONTNEED_LOCKED) != nil {
			t.Skip("skipped: Linux before 5.18 does not return locked memory")
		}
		empty := func(what string) {
			t.Helper()
			if got, err := look(addr, n*pageSize); got != 0 || err != nil {
				t.Errorf("%s, %s: %d pages are resident, %v", lock.name, what, got, err)
			}
			touch()
		}
		touch()
		for _, r := range []Range{{addr + mem.Addr(8*pageSize), 4 * pageSize}, {addr, n * pageSize}} {
			if err := Discard(r.Addr, r.Size); err != nil {
				t.Errorf("%s: %d bytes: %v", lock.name, r.Size, err)
			}
		}
		empty("discarded alone and as a whole")
		var r []Range
		for p := range mem.Bytes(n) {
			r = append(r, Range{addr + mem.Addr(p*pageSize), pageSize})
		}
		failures := Failed()
		if done, err := DiscardMany(r); done != n || err != nil || Failed() != failures {
			t.Errorf("%s: DiscardMany = %d, %v, %d failures", lock.name, done, err, Failed()-failures)
		}
		empty("with others")
		if !slices.Contains(vmFlags(t, addr+mem.Addr(8*pageSize)), "lo") {
			t.Errorf("%s: the memory is not locked any more", lock.name)
		}
	}
}

// TestRefusedRangeIsNotTheSystem: one range that the system refuses does not end the return of many
// ranges at once.
func TestRefusedRangeIsNotTheSystem(t *testing.T) {
	const n = 64
	addr, area := smallPages(t, n)
	clear(area)
	var r []Range
	for p := mem.Bytes(0); p < n; p += 2 {
		r = append(r, Range{addr + mem.Addr(p*pageSize), pageSize})
	}
	calls := Calls(OpDiscard)
	if _, err := DiscardMany(r); err != nil {
		t.Fatal(err)
	}
	many := Calls(OpDiscard) - calls
	if batches.Load() != batchYes {
		t.Skip("skipped: the system takes one range at a time")
	}
	bad := slices.Clone(r)
	bad[10].Addr++ // EINVAL, as for locked memory before Linux 5.18
	if done, err := DiscardMany(bad); done != 10 || !errors.Is(err, unix.EINVAL) {
		t.Errorf("DiscardMany = %d, %v, want 10, EINVAL", done, err)
	}
	calls = Calls(OpDiscard)
	if _, err := DiscardMany(r); err != nil || Calls(OpDiscard)-calls != many {
		t.Errorf("%d calls for %d ranges, before it was %d; %v", Calls(OpDiscard)-calls, len(r), many, err)
	}
}

func TestNap(t *testing.T) {
	start := time.Now()
	if Nap(2 * time.Millisecond); time.Since(start) < 2*time.Millisecond {
		t.Errorf("a nap of 2 ms took %v", time.Since(start))
	}
}

// TestHugePages reads the flags that the kernel shows for the range.
func TestHugePages(t *testing.T) {
	if HugePageMode() == "" {
		t.Skip("skipped: a kernel without huge pages")
	}
	defer Inject(nil)
	addr, area := smallPages(t, 64)
	size := 64 * pageSize
	if err := unix.Madvise(area, unix.MADV_HUGEPAGE); err != nil || !slices.Contains(vmFlags(t, addr), "hg") {
		t.Skip("skipped: the flags are not shown, as under emulation: ", err)
	}
	for _, c := range []struct {
		want       bool
		flag, none string
	}{{false, "nh", "hg"}, {true, "hg", "nh"}} {
		calls := Calls(OpAdvise)
		if err := HugePages(addr, size, c.want); err != nil {
			t.Fatal(err)
		}
		if n := Calls(OpAdvise) - calls; n != 1 {
			t.Errorf("%d calls counted, want 1", n)
		}
		if flags := vmFlags(t, addr); !slices.Contains(flags, c.flag) || slices.Contains(flags, c.none) {
			t.Errorf("after HugePages(%v) the flags are %v", c.want, flags)
		}
	}
	Inject(func(Op) error { return ErrInjected })
	if err := HugePages(addr, size, false); !errors.Is(err, ErrInjected) {
		t.Errorf("HugePages = %v", err)
	}
	if flags := vmFlags(t, addr); slices.Contains(flags, "nh") {
		t.Errorf("a refused call changed the flags to %v", flags)
	}
}

// vmFlags returns the flags of the mapping that contains addr.
func vmFlags(t *testing.T, addr mem.Addr) []string {
	t.Helper()
	m, found, err := smaps.At(addr)
	if err != nil || !found || m.Flags == nil {
		t.Skip("skipped: no flags in /proc/self/smaps: ", err)
	}
	return m.Flags
}

func TestHugePageMode(t *testing.T) {
	mode := HugePageMode()
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil {
		if mode != "" && mode != "unknown" {
			t.Errorf("mode %q without the setting", mode)
		}
	} else if !slices.Contains([]string{"always", "madvise", "never"}, mode) {
		t.Errorf("mode %q", mode)
	}
	for _, c := range []struct{ list, want string }{
		{"[always] madvise never\n", "always"}, {"always [madvise] never\n", "madvise"}, {"always madvise [never]\n", "never"},
		{"", ""}, {"always madvise never\n", ""}, {"always [madvise", ""},
	} {
		if got := chosen(c.list); got != c.want {
			t.Errorf("of %q, %q is chosen, want %q", c.list, got, c.want)
		}
	}
}

// TestWidestMode: of several sizes of huge pages the setting that allows most counts.
func TestWidestMode(t *testing.T) {
	for _, c := range []struct{ modes, want string }{
		{"always", "always"}, {"madvise", "madvise"}, {"never", "never"},
		{"always never inherit never", "always"}, {"madvise never inherit never", "madvise"}, {"never inherit inherit", "never"},
		{"madvise always inherit", "always"}, {"never never always madvise", "always"}, {"never madvise never", "madvise"},
		{"always never never", "never"},
	} {
		if got := widest(strings.Fields(c.modes)); got != c.want {
			t.Errorf("of %q, %q allows most, want %q", c.modes, got, c.want)
		}
	}
}

// TestRenew: what was advised is forgotten, what was written is gone, and the neighbours stay.
func TestRenew(t *testing.T) {
	if !smaps.TakesAdvice() {
		t.Skip("skipped: an emulator, which takes advice and does nothing")
	}
	if HugePageMode() == "" {
		t.Skip("skipped: a kernel without huge pages")
	}
	const n = 48
	addr, area := smallPages(t, n) // with advice
	for p := range mem.Bytes(n) {
		area[p*pageSize] = 7
	}
	from, size := 16*pageSize, 16*pageSize
	if err := Renew(addr+mem.Addr(from), size); err != nil {
		t.Fatal(err)
	}
	if pages, err := look(addr, n*pageSize); err == nil && pages != n-16 {
		t.Errorf("%d pages are resident, want %d", pages, n-16)
	}
	for p := range mem.Bytes(n) {
		want := byte(7)
		if p >= 16 && p < 32 {
			want = 0
		}
		if got := area[p*pageSize]; got != want {
			t.Errorf("page %d holds %d, want %d", p, got, want)
		}
		area[p*pageSize] = 1
	}
	for p, advised := range map[mem.Bytes]bool{0: true, 15: true, 16: false, 31: false, 32: true} {
		if flags := vmFlags(t, addr+mem.Addr(p*pageSize)); slices.Contains(flags, "nh") != advised {
			t.Errorf("page %d has the flags %v, want advice %t", p, flags, advised)
		}
	}
	if err := Renew(addr+1, pageSize); err == nil { // not aligned
		t.Error("a range that is not aligned was renewed")
	}
	area[0] = 1
}

// TestRenewLocked: where all new mappings are locked, a renewed range has no memory all the same.
func TestRenewLocked(t *testing.T) {
	const n = 16
	addr, area := smallPages(t, n)
	area[0] = 7
	if os.Geteuid() != 0 {
		t.Skip("skipped: without root the limit on locked memory may end the process")
	}
	if err := unix.Mlockall(unix.MCL_FUTURE); err != nil {
		t.Skip("skipped: memory cannot be locked: ", err)
	}
	err := Renew(addr, n*pageSize)
	if e := unix.Munlockall(); err != nil || e != nil {
		t.Fatal(err, e)
	}
	if pages, err := look(addr, n*pageSize); err == nil && pages != 0 {
		t.Errorf("%d pages are resident", pages)
	}
	area[0] = 1
}

func TestProcessFaults(t *testing.T) {
	const n = 1000
	_, area := smallPages(t, n)
	minor, major := ProcessFaults()
	for p := range mem.Bytes(n) {
		area[p*pageSize] = 1
	}
	minor2, major2 := ProcessFaults()
	if minor2 < minor+n || minor2 > minor+100*n || major2 < major {
		t.Errorf("touching %d pages made %d minor and %d major faults", n, minor2-minor, major2-major)
	}
}

func TestResidentBytes(t *testing.T) {
	const size = 64 * mib
	addr, area := smallPages(t, size/pageSize)
	read := func() uint64 {
		n, ok := ResidentBytes()
		if !ok {
			t.Skip("skipped: no /proc")
		}
		return n
	}
	before := read()
	for p := mem.Bytes(0); p < size; p += pageSize {
		area[p] = 1
	}
	full := read()
	if err := Discard(addr, size); err != nil {
		t.Fatal(err)
	}
	after := read()
	// A quarter is for what the rest of the process does and for the delay of the kernel's numbers.
	if full < before+size*3/4 || full > before+size*5/4 || after > full-size*3/4 {
		t.Errorf("%d before, %d with %d more, %d after it was discarded", before, full, size, after)
	}
}

func TestParseStatm(t *testing.T) {
	for _, c := range []struct {
		line           string
		size, resident uint64
		ok             bool
	}{
		{"1234 56 7 8 0 9 0\n", 1234, 56, true},
		{"18446744073709551615 0 ", 1<<64 - 1, 0, true},
		{"", 0, 0, false}, {"12", 0, 0, false}, {"12 ", 0, 0, false}, {"12 34", 0, 0, false},
		{" 12 34 ", 0, 0, false}, {"12 x ", 0, 0, false}, {"-1 2 ", 0, 0, false},
	} {
		if size, resident, ok := parseStatm([]byte(c.line)); size != c.size || resident != c.resident || ok != c.ok {
			t.Errorf("%q is %d, %d, %v; want %d, %d, %v", c.line, size, resident, ok, c.size, c.resident, c.ok)
		}
	}
}
