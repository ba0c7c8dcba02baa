package environments_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/smaps"
)

// farthest is the distance from the region's base within which all mappings are hakmem's: a region has a
// TiB at most, and its tables lie behind it.
const farthest = 2 << 40

// mappedResident returns how much of hakmem's mappings is resident by the system: of those that have a name of
// hakmem's, and, since kernels without CONFIG_ANON_VMA_NAME keep no names, of those around the region's base
// and around the given blocks, which are guarded ones.
func mappedResident(guarded []mem.Addr) (bytes int64, err error) {
	list, err := smaps.Read()
	base := mem.Addr(engine.Base)
	for _, m := range list {
		if strings.HasPrefix(m.Name, "[anon:hakmem: ") || m.From >= base && m.From < base+farthest ||
			slices.ContainsFunc(guarded, func(a mem.Addr) bool { return m.From <= a && a < m.To }) {
			bytes += int64(m.Resident)
		}
	}
	return bytes, err
}

// pageSum adds up the first part of a page of statistics line by line. It returns the value of each line by its
// text.
func pageSum(page string) (lines map[string]int64, err error) {
	lines = map[string]int64{}
	sum := int64(0)
	head, _, _ := strings.Cut(page, "\n\n")
	_, head, _ = strings.Cut(head, "\n")
	for line := range strings.Lines(head) {
		sign, rest := line[0], strings.Fields(line[1:])
		n, err := strconv.ParseInt(rest[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		switch sign {
		case '=':
			if n != sum {
				return nil, fmt.Errorf("%q is not the sum of the lines above, which is %d", line, sum)
			}
		case '-':
			sum -= n
		default:
			sum += n
		}
		lines[strings.Join(rest[3:], " ")] = n
	}
	return lines, nil
}

var _ = testkit.Child("statistics page", statisticsPage)

// statisticsPage: the lines of the page add up, none is negative, and the sum is what the system says of
// hakmem's mappings, within 1 %, for a program that has blocks of all kinds. kinds are lines that must not be
// 0.
func statisticsPage(kinds string) error {
	var guarded []mem.Addr
	write := func(p unsafe.Pointer, size uintptr) {
		if a := mem.Addr(p); a-mem.Addr(engine.Base) >= farthest {
			guarded = append(guarded, a)
		}
		for i := uintptr(0); i < size; i += 1 << 10 {
			*(*byte)(unsafe.Add(p, i)) = 1
		}
	}
	check := func(when string, kinds ...string) error {
		var page bytes.Buffer
		if err := hakmem.WriteStats(&page); err != nil {
			return err
		}
		want, err := mappedResident(guarded)
		if err != nil {
			return err
		}
		lines, err := pageSum(page.String())
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", when, err, page.String())
		}
		for what, n := range lines {
			if n < 0 || n == 0 && slices.Contains(kinds, what) {
				return fmt.Errorf("%s: %s: %d\n%s", when, what, n, page.String())
			}
		}
		if got := lines["resident"]; max(got-want, want-got) > want/100 {
			return fmt.Errorf("%s: %d bytes are resident by the page, %d by the system\n%s", when, got, want, page.String())
		}
		return nil
	}
	r := rand.New(rand.NewPCG(3, 4))
	site := hakmem.RegisterSite("statistics page")
	h := hakmem.NewHeap()
	a := hakmem.NewArena()
	var held []unsafe.Pointer
	for i := range 60_000 {
		size := uintptr(r.UintN(1500) + 1)
		p := hakmem.Malloc(size)
		switch i % 16 {
		case 0:
			hakmem.Free(p)
			p = hakmem.MallocAt(site, size)
		case 1:
			hakmem.Free(p)
			p = h.Malloc(size)
		case 2:
			write(a.Alloc(size, 8), size)
		}
		write(p, size)
		held = append(held, p)
	}
	for i := range 400 { // large and huge blocks, some of them written in part
		size := uintptr(r.UintN(300<<10)) + 33<<10
		if i%100 == 50 {
			size = 3<<20 + uintptr(i)<<10
		}
		p := hakmem.Malloc(size)
		if i%8 == 7 {
			p = hakmem.MallocAt(site, size)
		}
		write(p, size/uintptr(1+i%3))
		held = append(held, p)
	}
	if err := check("all alive"); err != nil {
		return err
	}
	var alive []unsafe.Pointer
	for i, p := range held { // two in three of the small blocks, and half of the large ones
		if i%3 == 0 || i >= 60_000 && i%4 == 0 {
			alive = append(alive, p)
		} else {
			hakmem.Free(p)
		}
	}
	if err := check("most freed", strings.Split(kinds, "|")...); err != nil {
		return err
	}
	hakmem.Trim()
	if err := check("after Trim", "of these without memory: holes, and never touched"); err != nil {
		return err
	}
	for _, p := range alive {
		hakmem.Free(p)
	}
	a.Close()
	h.Close()
	return nil
}

func TestStatisticsPage(t *testing.T) {
	plain(t)
	const kinds = "live blocks|free blocks in slabs|unused ends of slabs and of large blocks|free pages with memory|hakmem's own tables|of these without memory: holes, and never touched"
	testkit.InChild(t, "statistics page", kinds+"|free blocks in magazines|free blocks in shared slots|free blocks in the site cache|free blocks in the huge-block cache", noHuge, "HAKMEM_KEEP=always")
	testkit.InChild(t, "statistics page", kinds+"|freed blocks in the quarantine", noHuge, "HAKMEM_KEEP=always", "HAKMEM_HARDEN=1")
	testkit.InChild(t, "statistics page", kinds+"|guarded blocks", noHuge, "HAKMEM_KEEP=always", "HAKMEM_GUARD=1/500")
}
