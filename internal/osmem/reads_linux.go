package osmem

import "golang.org/x/sys/unix"

// exclusive is the bit of an entry of pagemap that says that the page is mapped here and nowhere else. It
// is not set for the zero page of the system, which is no page of anybody (the Linux kernel's
// Documentation/admin-guide/mm/pagemap.rst).
const exclusive = 1 << 56

// readTakesMemory reads a page that was never written, and looks at what the system put there. Where a
// filter of system calls is in force it does not try.
func readTakesMemory() (takes, known bool) {
	if filtered() {
		return false, false
	}
	addr, err := mapAt(0, systemPage, unix.PROT_READ|unix.PROT_WRITE, 0)
	if err != nil {
		return false, false
	}
	defer release(addr, systemPage)
	fd, err := openFile(&pagemapPath[0])
	if err != nil {
		return false, false
	}
	l := Look{lookState: lookState{way: byPagemap, file: true, fd: fd}}
	defer l.done()
	entry := func(wants uint64) (e uint64, ok bool) {
		l.Over(addr, systemPage)
		err := l.read(1)
		return l.room[0], err == nil && l.room[0]&pagemapBits == wants
	}
	if _, ok := entry(0); !ok { // an emulator speaks of other addresses
		return false, false
	}
	page := bytes(addr, systemPage)
	if page[0] != 0 {
		return false, false
	}
	read, ok := entry(pagemapPresent)
	if !ok {
		return false, false
	}
	page[0] = 1 // then it is a page of its own, whatever it was
	written, ok := entry(pagemapPresent)
	return read&exclusive != 0, ok && written&exclusive != 0
}
