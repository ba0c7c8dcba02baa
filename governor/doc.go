// Package governor keeps a whole process under one number of bytes, the total: Go's memory, hakmem's, and
// a reserve for the rest.
//
//	g, err := governor.Start(governor.Options{}) // the total is the container's limit
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer g.Close()
//
// Go has a limit for its own memory (GOMEMLIMIT, debug.SetMemoryLimit), which does not count hakmem's. hakmem
// has one for its memory (hakmem.SetMemoryLimit), which does not count Go's. If each has a fixed part, one
// runs short while the other has room. So the governor moves both limits as demand moves. Both are soft: Go
// collects garbage more often near its limit, hakmem returns free memory near its own. What is alive is taken
// from neither.
//
// # How the total is divided
//
// The budget is the total without the reserve. In each period the governor reads what both sides have and
// divides the budget (divide.go):
//
//   - First each side gets what cannot be taken from it. Of Go that is what was alive after the last
//     collection, with stacks and tables, times 1.1; of hakmem it is all memory but free pages and cached
//     blocks, and a 32nd of the budget in which it may grow during a period.
//   - Then each gets what it would have if nobody limited it: Go the garbage that GOGC allows, hakmem the free
//     memory that it keeps and twice what it has lately grown by in a period. If that is more than there is,
//     both get the same share of it.
//   - What is left is halved.
//
// The two limits together are the budget, so both sides are within it whenever both keep to their limits.
// They cannot always: hakmem's limit is soft, so the process can exceed the total for a period by what
// hakmem grows by beyond its part; and if more than the budget is alive, nothing but callbacks helps
// ([OnPressure]). hakmem's hard limit is left as it is.
//
// A swing of less than a 64th of the budget moves nothing. Go's limit is lowered at once when hakmem needs
// the room. It is raised at once to what Go wants, and beyond that only when there was room for ten periods
// in a row: otherwise demand of hakmem that comes and goes would cost a collection each time.
//
// # Collections
//
// A program whose data lies in hakmem has a small Go heap. By default (GOGC=100) it is collected whenever it
// has doubled, which is often, although there is room. So the governor raises the GC percent until the heap
// fills Go's part of the budget, up to 1000, where collections are a tenth as many. If GOGC is set, or the
// program has set another percent than 100, that stays.
//
// # Who else sets limits
//
// The limits that Start finds are respected: Go's limit is never above the one that GOMEMLIMIT or the program
// has set, and hakmem's soft limit never above that of HAKMEM_MEMORY_SOFT. With GOMEMLIMIT=off, spelled out,
// Go's limit is not moved at all. If something else sets a limit while the governor runs, the governor moves
// that limit no more, and [Governor.Err] says so. It counts then with what that side has.
//
// Built with -race and the tag hakmem_racetrack, hakmem's address range is a part of Go's memory, all of it: a
// governor then leaves both sides the least. Such builds are for tests without one.
package governor
