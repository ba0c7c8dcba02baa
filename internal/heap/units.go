package heap

import "github.com/hakmem/hakmem/internal/sizeclass"

// kibShift is log2 of how far apart live bytes of mid blocks are. The smallest of
// these blocks has 1152 bytes.
const kibShift = 10

// classSize returns the bytes of a block of class c.
func classSize(c uint8) uintptr { return uintptr(sizeclass.Classes[c].Size) }

// purgeBatch is how many chunks, 2 MiB each, one round of a purge takes out of
// use at a time: runs merge across their borders, so 64 MiB need one system call
// where they are wholly free.
const purgeBatch = 32

const (
	pageShift = sizeclass.PageShift
	pageSize  = sizeclass.PageSize

	// A superslab is 32 pages, 2 MiB: the size of a huge page on amd64 and
	// arm64, and one bit of a uint32 for each page.
	superPages = 32
	superShift = pageShift + 5
	superSize  = 1 << superShift

	granuleShift = 4

	// minRegion is the least region worth having; below it init gives up.
	minRegion = 256 << 20
	// metaStep is how much of the region each commit of metadata covers, so
	// that metadata needs few system calls: 5 MiB of maps for 64 MiB.
	metaStep = 64 << 20
)

func roundUp(n, to uintptr) uintptr { return (n + to - 1) &^ (to - 1) }

func blockBytes(c uint8) uintptr {
	if c > sizeclass.Num {
		return sizeclass.SpanBytes(c)
	}
	return classSize(c)
}
