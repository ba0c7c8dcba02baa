package hakmem

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
)

// This file prints the statistics page: a text for people that answers where the memory is. Its idea, lines
// that add up to what the process has resident, is that of TCMalloc's page of statistics
// (MallocExtension::GetStats, Google, 2005).

// WriteStats writes the state of the allocator to w, as a text for people. The first part is a sum: live
// blocks, free blocks by the cache that has them, free pages and hakmem's own tables are together what is
// resident. What is committed and what is reserved follow from it. Then come the memory limits, what became
// of freed memory, a line for each size class in use, a line for each site with the largest first, and what
// went wrong and was survived. Sizes are in bytes.
//
// The figures are those of one call of ReadStats, which says when they are exact and what they cost. While
// others allocate and free, the line for unused ends takes up the difference, and may be negative. Where the
// system does not say what is resident, the sum is what the memory limits count (MemoryStats.Counted).
//
// Any goroutine. WriteStats uses Go memory. It calls w.Write once and holds no lock meanwhile, and returns
// the error of that call. The text may change with any release: programs read Stats.Figures.
func WriteStats(w io.Writer) error {
	var s Stats
	ReadStats(&s)
	_, err := w.Write(s.page())
	return err
}

// page returns the statistics page.
func (s *Stats) page() []byte {
	var b bytes.Buffer
	b.WriteString("Memory, in bytes\n")
	printSum(&b, s.residentSum())
	b.WriteString("\nAddress space, in bytes\n")
	printSum(&b, s.reservedSum())
	b.WriteString("\nMemory limits, in bytes\n")
	printSum(&b, []term{{0, int64(s.Counted), "counted: all that may be resident"}, {0, int64(s.SoftLimit), "soft limit (0: none)"}, {0, int64(s.HardLimit), "hard limit (0: none)"}})
	fmt.Fprintf(&b, "%20d  refusals by the hard limit\n%20d  rounds that the soft limit asked for\n%20d  allocations that returned nil\n", s.Scavenger.LimitRefused, s.Scavenger.PressureRounds, s.OutOfMemory)
	s.printScavenger(&b)
	s.printClasses(&b)
	s.printSites(&b)
	if len(s.Errors) > 0 {
		b.WriteString("\nSurvived\n")
	}
	for _, err := range s.Errors {
		fmt.Fprintf(&b, "  %v\n", err)
	}
	return b.Bytes()
}

// term is a line of a sum. Its sign is '+' or '-', '=' where the line is the sum of those above it, or 0 for the
// first line.
type term struct {
	sign  rune
	bytes int64
	what  string
}

// printSum prints the lines of a sum.
func printSum(b *bytes.Buffer, terms []term) {
	for _, t := range terms {
		fmt.Fprintf(b, "%c %18d  %10.1f MiB  %s\n", cmp.Or(t.sign, ' '), t.bytes, float64(t.bytes)/(1<<20), t.what)
	}
}

// residentSum adds up what is resident.
func (s *Stats) residentSum() []term {
	inSlabs := uint64(0)
	for _, c := range s.Classes {
		inSlabs += c.Free * c.Size
	}
	l := &s.Large
	caches := []term{
		{0, int64(s.Live), "live blocks"},
		{'+', int64(s.InMagazines+l.CachedBytes) - int64(s.InQuarantine+l.Shared.Bytes+l.SiteCache.Bytes+l.HugeCache.Bytes), "free blocks in magazines"},
		{'+', int64(s.InQuarantine), "freed blocks in the quarantine"},
		{'+', int64(l.Shared.Bytes), "free blocks in shared slots"},
		{'+', int64(l.SiteCache.Bytes), "free blocks in the site cache"},
		{'+', int64(l.HugeCache.Bytes), "free blocks in the huge-block cache"},
		{'+', int64(inSlabs), "free blocks in slabs"},
	}
	used := int64(s.Scavenger.Used)
	ends := used
	for _, t := range caches {
		ends -= t.bytes
	}
	sum := append(caches, term{'+', ends, "unused ends of slabs and of large blocks"}, term{'=', used, "pages in use"})
	by := &s.ResidentBy
	if *by == (ResidentStats{}) { // the system does not say
		free := int64(s.Scavenger.Dirty)
		return append(sum,
			term{'+', free, "free pages with memory"},
			term{'+', int64(s.Counted) - used - free, "tables and guarded blocks, less what has no memory"},
			term{'=', int64(s.Counted), "counted: all that may be resident"})
	}
	return append(sum,
		term{'-', used - s.residentInUse(), "of these without memory: holes, and never touched"},
		term{'+', int64(by.Free), "free pages with memory"},
		term{'+', int64(by.Guarded), "guarded blocks"},
		term{'+', int64(by.Tables), "hakmem's own tables"},
		term{'=', int64(s.Resident), "resident"})
}

// residentInUse is how many bytes of the pages in use are resident.
func (s *Stats) residentInUse() int64 {
	by := &s.ResidentBy
	return int64(by.Slabs + by.LargeLive + by.LargeCached)
}

// reservedSum adds up the address space for blocks.
func (s *Stats) reservedSum() []term {
	resident := s.residentInUse() + int64(s.ResidentBy.Free)
	return []term{
		{0, resident, "resident in the pages for blocks"},
		{'+', int64(s.Committed) - resident, "without memory: returned, or never touched"},
		{'=', int64(s.Committed), "committed for blocks"},
		{'+', int64(s.Reserved) - int64(s.Committed), "not committed"},
		{'=', int64(s.Reserved), "reserved for blocks"},
	}
}

// printScavenger prints what came of keeping and returning memory.
func (s *Stats) printScavenger(b *bytes.Buffer) {
	c := &s.Scavenger
	b.WriteString("\nFreed memory since the start, in bytes\n")
	printSum(b, []term{
		{0, int64(c.KeptReused), "kept, and used again"},
		{0, int64(c.KeptInVain), "kept for the hold time, and then returned"},
		{0, int64(c.Returned), "returned to the system, which includes the line above"},
		{0, int64(c.FaultedAgain), "returned, and wanted again so soon that it should have been kept"},
		{0, int64(c.Holes), "returned from between live blocks (holes)"},
		{0, int64(c.Refilled), "resident without use, and returned once more"},
	})
	fmt.Fprintf(b, "%20v  hold time now, on average\n%20d  ticks of the scavenger\n", c.HoldTime, c.Ticks)
}

// printClasses prints the size classes that have slabs.
func (s *Stats) printClasses(b *bytes.Buffer) {
	fmt.Fprintf(b, "\nSize classes\n%8s %12s %14s %12s %12s %8s %12s\n", "bytes", "live blocks", "live bytes", "in magazines", "in slabs", "slabs", "misses")
	for _, c := range s.Classes {
		if c.Slabs > 0 {
			fmt.Fprintf(b, "%8d %12d %14d %12d %12d %8d %12d\n", c.Size, c.Live, c.Live*c.Size, c.InMagazines, c.Free, c.Slabs, c.Misses)
		}
	}
	fmt.Fprintf(b, "%8s %12d %14d %12d\n", "large", s.Large.LiveBlocks, s.Large.LiveBytes, s.Large.CachedBlocks)
}

// printSites prints the sites, those with the most live bytes first.
func (s *Stats) printSites(b *bytes.Buffer) {
	if len(s.Sites) == 0 {
		return
	}
	fmt.Fprintf(b, "\nSites\n%14s %12s %8s  %s\n", "live bytes", "live blocks", "one in", "name")
	sites := slices.SortedStableFunc(slices.Values(s.Sites), func(x, y SiteStats) int {
		return cmp.Compare(y.LiveBytes*y.OneIn, x.LiveBytes*x.OneIn)
	})
	for _, x := range sites {
		fmt.Fprintf(b, "%14d %12d %8d  %q\n", x.LiveBytes, x.LiveBlocks, x.OneIn, x.Name)
	}
}
