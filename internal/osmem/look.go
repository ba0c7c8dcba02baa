package osmem

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
)

// Look is one look at which OS pages of the process have memory behind them. Its zero value is
// closed. It belongs to one goroutine. It has 4 KiB, and allocates no Go memory.
//
// A look goes over one range after another: Over says which, and Next finds in it one run of memory
// after another, in ascending order.
//
//	for look.Over(addr, size); look.Next(); {
//		use(look.Run)
//	}
//
// A huge page counts as the OS pages that it covers. A page that was read but never written counts
// too, although all such pages share one page of zeroes. A page that was swapped out does not
// count. If other goroutines touch or discard the range meanwhile, each page counts as it was
// at some moment of the look.
type Look struct {
	// Run is what Next has found: memory in whole OS pages. The next run may begin where it ends.
	Run Range

	at, end mem.Addr // what of the range is still to be found in room, or to be asked
	open    bool     // the system tells
	lookState
}

// BeginLook opens the look, or returns ErrNotSupported. The first looks try on memory of their own
// whether the system tells the truth, which it need not under an emulator. After a refusal some calls, 1, 3, 7 and so on up
// to looksSkipped, return that without a system call. The caller closes the look.
func BeginLook(l *Look) error {
	if !canLook {
		return ErrNotSupported
	}
	if looks.skip.Load() > 0 {
		looks.skip.Add(-1)
		return ErrNotSupported
	}
	if err := ask(OpResident, func() error { return l.begin() }); err != nil {
		l.Close()
		return looks.refused()
	}
	l.open = true
	looks.penalty.Store(0)
	return nil
}

// looks says how often BeginLook is to do without a system call: skip is how many times more, penalty
// how many there were after the last refusal.
var looks lookCounts

type lookCounts struct{ skip, penalty atomic.Int32 }

// looksSkipped is the most calls of BeginLook without a system call. The scavenger, which looks at most
// once in a tick of 55 ms, then tries about once a minute.
const looksSkipped = 1023

func (c *lookCounts) refused() error {
	n := min(2*c.penalty.Load()+1, looksSkipped)
	c.penalty.Store(n)
	c.skip.Store(n)
	return ErrNotSupported
}

// Over says that Next is to look at the OS pages of [addr, addr+size), those of which only a part is in it
// included.
func (l *Look) Over(addr mem.Addr, size mem.Bytes) {
	l.at, l.end = mem.Addr(mem.Bytes(addr).Down(systemPage)), addr.Add(size).Up(systemPage)
	l.empty()
}

// Next finds the next run and reports whether there is one. It makes a system call for each 2 to 16 MiB,
// or for some hundred runs. After a refusal the look is over: then there is none, and Known says so.
func (l *Look) Next() bool {
	for l.open {
		if l.take() {
			return true
		}
		if l.at >= l.end {
			return false
		}
		if err := ask(OpResident, func() error { return l.fill() }); err != nil {
			l.Close()
			_ = looks.refused()
		}
	}
	return false
}

// Known reports whether the system has answered all that Next was asked.
func (l *Look) Known() bool { return l.open }

// Resident returns how many bytes of the OS pages of [addr, addr+size) have memory, or false where that is not
// known.
func (l *Look) Resident(addr mem.Addr, size mem.Bytes) (n mem.Bytes, known bool) {
	for l.Over(addr, size); l.Next(); {
		n += l.Run.Size
	}
	if !l.Known() {
		return 0, false
	}
	return n, true
}

// Close ends the look.
func (l *Look) Close() {
	l.open = false
	l.done()
}
