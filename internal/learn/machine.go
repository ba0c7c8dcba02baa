package learn

import "slices"

// Machine says what a machine takes for 4 KiB of memory, in CPU seconds.
type Machine struct {
	Fault  float64 // to fault them in, with the zeroing
	Return float64 // to return them to the operating system
}

// TypicalMachine is what is assumed before anything was measured (docs/ledger.md, "What a fault and a
// return cost").
var TypicalMachine = Machine{Fault: 0.75e-6, Return: 0.12e-6}

// Costs returns what a page of so many bytes costs at a price of memory: the CPU seconds that a GiB is
// worth that is held for a second.
func (m Machine) Costs(bytes int, price float64) Costs {
	parts := float64(bytes) / 4096
	return Costs{
		Fault:  parts * m.Fault,
		Return: parts * m.Return,
		Hold:   price * float64(bytes) / (1 << 30),
	}
}

const (
	// probes is how many measurements are remembered. Their median is right if at most two of them were
	// made while the machine was busy with something else.
	probes = 5
	// A machine counts as one on which a fault and a return together take at least leastProbed and at most
	// mostProbed times what TypicalMachine takes. With less, memory that is wanted every 2 s would be
	// returned at the default price, and programs rely on it that it is not (docs/learning.md). With
	// more, a machine that is busy for an hour would be taken for a slow one. At the default price
	// memory is then kept for 2.3 to 3.4 s.
	leastProbed, mostProbed = 1, 1.5
)

// Probes measures a machine. The zero Probes has measured nothing. It is for one goroutine at a time.
type Probes struct {
	fault, give recent
}

// Note adds a measurement: the CPU seconds for 4 KiB. What is not positive was not measured, and is left
// out.
func (p *Probes) Note(m Machine) {
	if m.Fault > 0 && m.Return > 0 {
		p.fault.add(m.Fault)
		p.give.add(m.Return)
	}
}

// Machine returns what was measured, within bounds, or TypicalMachine before probes were noted.
func (p *Probes) Machine() Machine {
	if p.fault.n < probes {
		return TypicalMachine
	}
	m := Machine{Fault: p.fault.median(), Return: p.give.median()}
	typical := TypicalMachine.Fault + TypicalMachine.Return
	is := (m.Fault + m.Return) / typical
	f := min(max(is, leastProbed), mostProbed) / is
	return Machine{Fault: f * m.Fault, Return: f * m.Return}
}

// recent has the last measurements of something that always takes the same, apart from disturbances.
type recent struct {
	x [probes]float64
	n int
}

// add adds a measurement.
func (r *recent) add(x float64) {
	r.x[r.n%probes] = x
	r.n++
}

// median returns the median of the last measurements, of which there is one at least: of an even number the
// lower one of the two in the middle, since what disturbs makes them higher.
func (r *recent) median() float64 {
	n := min(r.n, probes)
	sorted := r.x
	slices.Sort(sorted[:n])
	return sorted[(n-1)/2]
}
