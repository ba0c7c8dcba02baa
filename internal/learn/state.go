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
	// Sites has the names of the sites that the decisions are about.
	Sites map[uint32]string `json:"sites,omitempty"`
	// Thresholds says what thresholds would have cost, what the caches did first; nothing if that is not
	// known.
	Thresholds []ThresholdStanding `json:"thresholds,omitempty"`
	// Touch says how memory of fresh blocks comes where it does not come by faults.
	Touch []TouchInForce `json:"touch,omitempty"`
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

// State returns how l stands. Memory and Sites are left to the caller.
func (l *Learner) State() State {
	ranking := l.board.Ranking()
	s := State{Evolution: l.evolution.Snapshot(), Board: ranking[:], Strategy: l.Strategy(), Hindsight: l.log.Hindsight(), Thresholds: l.thresholds.Standings()}
	l.log.Each(func(_ Seq, d Decision) bool {
		s.Decisions = append(s.Decisions, d)
		return true
	})
	return s
}

// explained is how many sentences there are at most about the last decisions: half a screen.
const explained = 12

// Explain writes in sentences why the process holds what it holds, and what the learner has decided. It
// returns the error of w.
func (s State) Explain(w io.Writer) error {
	b := bufio.NewWriter(w)
	say := func(format string, values ...any) { fmt.Fprintf(b, format+"\n", values...) }
	m := s.Memory
	resident, live := inBytes(float64(m.Resident)), inBytes(float64(m.Live))
	if m.Live <= m.Resident {
		say("hakmem has %s of memory here; %s of it are live blocks.", resident, live)
	} else {
		say("hakmem has %s of memory here. The live blocks have %s; some of that was not written to yet and has no memory.", resident, live)
	}
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
		say("The memory of %s comes %s.", touchBlocks(x.Where, s.Sites), [...]string{
			TouchFault:    "when the program touches it, a page at a time",
			TouchPopulate: "before the program gets them, with one call",
			TouchHuge:     "before the program gets them, with huge pages",
		}[x.Arm])
	}
	say("")
	e := s.Evolution
	if e.Policy == EvolutionOff {
		say("Nothing is learnt: HAKMEM_EVO is off, or hakmem was built with hakmem_nolearn.")
		return b.Flush()
	}
	say("The learner is in %v for %s, by the policy %v. It froze %d times and learnt again %d times.", e.Mode, inSeconds(e.Age().Seconds()), e.Policy, e.Freezes, e.Relearns)
	if s.Strategy != (Strategy{1, 1}) {
		say("In force are hold times times %g and a budget times %g.", s.Strategy.Hold, s.Strategy.Budget)
	}
	if chosen, ok := s.chosen(); ok {
		say("Caches cost %s CPU s for each block above 32 KiB that its magazine did not have. If blocks above a fixed size went back to the system at once, a bandit would have chosen %s, at %s CPU s.",
			inCosts(s.Thresholds[0].Cost), inBytes(float64(chosen.Bytes)), inCosts(chosen.Cost))
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
		said := s.sentences()
		for _, line := range said[max(0, len(said)-explained):] {
			say("  %s", line)
		}
	} else {
		say("Nothing has been decided yet: the learner needs a few windows of %v in which memory is freed and used again.", WindowTime)
	}
	return b.Flush()
}

// sentences says what was decided, the oldest first. Hold times that changed at the same moment share a
// sentence.
func (s State) sentences() (said []string) {
	for rest := s.Decisions; len(rest) > 0; {
		n := 1
		for d := rest[0]; d.Kind == KindHold && n < len(rest) && rest[n].Kind == KindHold && rest[n].At == d.At && rest[n].Applied == d.Applied; {
			n++
		}
		if n > 1 {
			said = append(said, sentences(rest[:n])...)
		} else {
			said = append(said, rest[0].sentence(s.Sites))
		}
		rest = rest[n:]
	}
	return said
}

// chosen returns the threshold that the bandit has adopted, if one is known.
func (s State) chosen() (t ThresholdStanding, ok bool) {
	for _, t := range s.Thresholds {
		if t.Chosen {
			return t, true
		}
	}
	return t, false
}

// WriteBoard writes how the strategies stand, as a table, and what thresholds would have cost, as another
// one. It returns the error of w.
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
	if len(s.Thresholds) > 0 {
		fmt.Fprintf(b, "\n%-14s  %9s  %9s  %7s\n", "returned above", "CPU s", "of caches", "windows")
	}
	for _, t := range s.Thresholds {
		above, ratio, note := inBytes(float64(t.Bytes)), "", ""
		if t.Bytes == 0 {
			above = "none: caches"
		}
		if caches := s.Thresholds[0].Cost; caches > 0 {
			ratio = "x " + plain(t.Cost/caches)
		}
		if t.Chosen {
			note = "chosen by the bandit"
		}
		line := fmt.Sprintf("%-14s  %9s  %9s  %7d  %s", above, inCosts(t.Cost), ratio, t.Plays, note)
		fmt.Fprintln(b, strings.TrimRight(line, " "))
	}
	return b.Flush()
}

// Age returns how long ago the Evolution's mode began, at its last window.
func (e EvolutionSnapshot) Age() time.Duration { return e.Now - e.Since }
