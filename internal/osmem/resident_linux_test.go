package osmem

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

var pageSize = mem.Bytes(os.Getpagesize())

// smallPages returns n committed pages that will never be part of a huge page, whatever the
// system's setting is, so that each can be touched separately.
func smallPages(t *testing.T, n mem.Bytes) (addr mem.Addr, area []byte) {
	t.Helper()
	size := (n*pageSize + 0xffff) &^ 0xffff
	addr, err := Reserve(size, false)
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

func TestResident(t *testing.T) {
	const n = 50
	for _, c := range []struct {
		name    string
		touched func(page mem.Bytes) bool
		want    int
	}{
		{"none", func(mem.Bytes) bool { return false }, 0},
		{"first", func(p mem.Bytes) bool { return p == 0 }, 1},
		{"last", func(p mem.Bytes) bool { return p == n-1 }, 1},
		{"every third", func(p mem.Bytes) bool { return p%3 == 0 }, 17},
		{"all", func(mem.Bytes) bool { return true }, n},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, area := smallPages(t, n)
			for p := range mem.Bytes(n) {
				if c.touched(p) {
					area[p*pageSize] = 1
				}
			}
			for _, scratch := range []int{1, 7, n - 1, n, 4 * n} {
				before := Calls(OpResident)
				got, err := Resident(addr, n*pageSize-1, make([]byte, scratch)) // rounded up
				if err != nil || got != c.want {
					t.Errorf("with %d bytes of scratch: %d pages, %v; want %d", scratch, got, err, c.want)
				}
				if calls, want := Calls(OpResident)-before, uint64((n+scratch-1)/scratch); calls != want {
					t.Errorf("with %d bytes of scratch: %d calls counted, want %d", scratch, calls, want)
				}
			}
		})
	}
}

// TestResidentChanges checks what the comment of Resident says of pages that are only read, of
// discarded ones, and of parts of a range.
func TestResidentChanges(t *testing.T) {
	const n = 8
	addr, area := smallPages(t, n)
	check := func(what string, first, pages mem.Bytes, want int) {
		t.Helper()
		if got, err := Resident(addr+mem.Addr(first*pageSize), pages*pageSize, make([]byte, 3)); err != nil || got != want {
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
}

func TestResidentErrors(t *testing.T) {
	defer Inject(nil)
	const n = 10
	addr, area := smallPages(t, n)
	clear(area)
	gone, err := Reserve(mib, false)
	if err != nil {
		t.Fatal(err)
	}
	Release(gone, mib)
	second := func() func(Op) error { // refuses the second call
		calls := 0
		return func(op Op) error {
			if calls++; op == OpResident && calls == 2 {
				return ErrInjected
			}
			return nil
		}
	}
	for _, c := range []struct {
		name    string
		addr    mem.Bytes
		scratch int
		inject  func(Op) error
		want    error
		calls   uint64
	}{
		{"no scratch", mem.Bytes(addr), 0, nil, errNoScratch, 0},
		{"unaligned", mem.Bytes(addr + 1), n, nil, unix.EINVAL, 1},
		{"not mapped", mem.Bytes(gone), n, nil, unix.ENOMEM, 1},
		{"refused at the second piece", mem.Bytes(addr), 4, second(), ErrInjected, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			Inject(c.inject)
			defer Inject(nil)
			calls, failures := Calls(OpResident), Failed()
			got, err := Resident(mem.Addr(c.addr), n*pageSize, make([]byte, c.scratch))
			if got != 0 || !errors.Is(err, c.want) {
				t.Errorf("%d pages, %v; want 0, %v", got, err, c.want)
			}
			wantFailures := uint64(1)
			if c.want == errNoScratch {
				wantFailures = 0
			}
			if calls, failures = Calls(OpResident)-calls, Failed()-failures; calls != c.calls || failures != wantFailures {
				t.Errorf("%d calls and %d failures counted, want %d and %d", calls, failures, c.calls, wantFailures)
			}
		})
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
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip("skipped: no /proc: ", err)
	}
	defer f.Close()
	inside := false
	for s := bufio.NewScanner(f); s.Scan(); {
		var low, high mem.Bytes
		if n, _ := fmt.Sscanf(s.Text(), "%x-%x ", &low, &high); n == 2 {
			inside = mem.Addr(low) <= addr && addr < mem.Addr(high)
		} else if flags, ok := strings.CutPrefix(s.Text(), "VmFlags:"); ok && inside {
			return strings.Fields(flags)
		}
	}
	t.Skip("skipped: no flags in /proc/self/smaps")
	return nil
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
	if pages, err := Resident(addr, n*pageSize, make([]byte, n)); err == nil && pages != n-16 {
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
	if pages, err := Resident(addr, n*pageSize, make([]byte, n)); err == nil && pages != 0 {
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

// TestNoAllocation checks that measuring memory does not use more of it.
func TestNoAllocation(t *testing.T) {
	addr, _ := smallPages(t, 64)
	if n := testing.AllocsPerRun(100, func() {
		var vec [16]byte
		if _, err := Resident(addr, 64*pageSize, vec[:]); err != nil {
			t.Error(err)
		}
		ResidentBytes()
		ProcessFaults()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
