package learn

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// State is what a Learner has decided so far and how it stands, for display, with the memory of the process
// that it belongs to. It encodes as JSON.
type State struct {
	Evolution EvolutionSnapshot `json:"evolution"`
	Board     []Standing        `json:"board"` // the active strategies from the best rated on, and then the others
	Strategy  Strategy          `json:"strategy"`
	Decisions []Decision        `json:"decisions"` // the oldest first
	Hindsight []Hindsight       `json:"hindsight"`
	Memory    Memory            `json:"memory"`
	Touch     []TouchInForce    `json:"touch,omitempty"` // what is in force instead of TouchFault
}

// TouchInForce says how the memory of fresh blocks comes.
type TouchInForce struct {
	Where uint32   `json:"where"` // as TouchWhere returns it
	Arm   TouchArm `json:"arm"`
}

// Memory says what a process holds, and at what costs, in bytes and seconds.
type Memory struct {
	Resident uint64  `json:"resident_bytes"`   // all that hakmem has, as far as it is resident
	Live     uint64  `json:"live_bytes"`       // blocks
	Caches   uint64  `json:"caches_bytes"`     // free blocks in caches
	Budget   uint64  `json:"budget_bytes"`     // that caches may hold
	Huge     uint64  `json:"huge_bytes"`       // free blocks in the cache of huge blocks and in that of sites
	Free     uint64  `json:"free_bytes"`       // free pages that still have memory
	Returned uint64  `json:"returned_bytes"`   // memory returned so far
	Again    uint64  `json:"again_bytes"`      // memory that was faulted in again soon after
	Price    float64 `json:"price"`            // CPU seconds for a GiB·s
	Even     float64 `json:"break_even_s"`     // for so long keeping costs as much as returning
	Hold     float64 `json:"hold_s"`           // for so long free pages are kept on average
	Holes    float64 `json:"hole_hold_s"`      // for so long free blocks in slabs with live ones are
	Soft     uint64  `json:"soft_limit_bytes"` // 0: none
}

// State returns how l stands. Memory is left to the caller.
func (l *Learner) State() State {
	ranking := l.board.Ranking()
	s := State{Evolution: l.evolution.Snapshot(), Board: ranking[:], Strategy: l.Strategy(), Hindsight: l.log.Hindsight()}
	l.log.Each(func(_ Seq, d Decision) bool {
		s.Decisions = append(s.Decisions, d)
		return true
	})
	return s
}

// explained is how many of the last decisions are told.
const explained = 12

// Explain writes in sentences why the process holds what it holds, and what the learner has decided. It
// returns the error of w.
func (s State) Explain(w io.Writer) error {
	b := bufio.NewWriter(w)
	say := func(format string, values ...any) { fmt.Fprintf(b, format+"\n", values...) }
	m := s.Memory
	say("hakmem has %s of memory here; %s of it are live blocks.", inBytes(float64(m.Resident)), inBytes(float64(m.Live)))
	budget := "which is more"
	if m.Caches > m.Budget {
		budget = "which is less: each time that the scavenger looks, their memory becomes dearer"
	}
	say("Caches hold %s of free blocks, so that allocations need no lock. Together they may hold %s, %s.", inBytes(float64(m.Caches)), inBytes(float64(m.Budget)), budget)
	if m.Huge > 0 {
		say("Blocks above 2 MiB and blocks of sites that were freed lately hold %s.", inBytes(float64(m.Huge)))
	}
	say("Free pages still have %s. They are kept for %s on average: at %s for a GiB·s, keeping a page for %s costs as much as returning it and faulting it in again, and how long pages waited so far says the rest.",
		inBytes(float64(m.Free)), inSeconds(m.Hold), inCPU(m.Price), inSeconds(m.Even))
	say("The memory of free blocks in slabs that also have live ones is returned when nobody took blocks from the slab for %s.", inSeconds(m.Holes))
	if m.Returned > 0 {
		say("Of %s returned so far, %s were wanted again soon, which cost page faults.", inBytes(float64(m.Returned)), inBytes(float64(m.Again)))
	}
	if m.Soft > 0 {
		say("Near the soft limit of %s the price of memory rises, and everything goes back sooner.", inBytes(float64(m.Soft)))
	}
	for _, x := range s.Touch {
		say("The memory of %s comes %s.", touchBlocks(x.Where), [...]string{
			TouchFault:    "when the program touches it, a page at a time",
			TouchPopulate: "before the program gets them, with one call",
			TouchHuge:     "before the program gets them, with huge pages",
		}[x.Arm])
	}
	say("")
	e := s.Evolution
	say("The learner is in %v for %s, by the policy %v. It froze %d times and learnt again %d times.", e.Mode, inSeconds(e.Age().Seconds()), e.Policy, e.Freezes, e.Relearns)
	if s.Strategy != (Strategy{1, 1}) {
		say("In force are hold times times %g and a budget times %g.", s.Strategy.Hold, s.Strategy.Budget)
	}
	for _, h := range s.Hindsight {
		if h.Settled > 0 {
			say("Of %d decisions of the kind %q the outcome of %d is known; %d were right.", h.Decisions, h.Kind, h.Settled, h.Right)
		} else {
			say("%d decisions are of the kind %q.", h.Decisions, h.Kind)
		}
	}
	if n := len(s.Decisions); n > 0 {
		say("The last decisions, in time since the learner's first window:")
		for _, d := range s.Decisions[max(0, n-explained):] {
			say("  %s", d.Sentence())
		}
	} else {
		say("Nothing has been decided yet: the learner needs a few windows of %v in which memory is freed and used again.", WindowTime)
	}
	return b.Flush()
}

// WriteBoard writes how the strategies stand, as a table. It returns the error of w.
func (s State) WriteBoard(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%4s  %-10s  %-8s  %7s  %5s  %6s  %5s  %8s\n", "rank", "hold times", "budget", "rating", "wins", "losses", "draws", "windows")
	for i, p := range s.Board {
		x := Strategies[p.Strategy]
		note := ""
		if !p.Active {
			note = "inactive"
		}
		line := fmt.Sprintf("%4d  x %-8g  x %-6g  %7.0f  %5d  %6d  %5d  %8d  %s", i+1, x.Hold, x.Budget, p.Rating, p.Wins, p.Losses, p.Draws, p.Samples, note)
		fmt.Fprintln(b, strings.TrimRight(line, " "))
	}
	return b.Flush()
}

// Age returns how long ago the Evolution's mode began, at its last window.
func (e EvolutionSnapshot) Age() time.Duration { return e.Now - e.Since }
