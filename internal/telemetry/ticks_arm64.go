package telemetry

// Unit names what the numbers of this package count: the system counter, at 24
// MHz to 1 GHz, so that a tick may be 40 ns and the shortest phases take none.
const Unit = "CNTVCT ticks"

const knownHz = 0 // measured

// ticks reads the virtual counter, which every supported system lets programs
// read. It is never 0: that is the time of the machine's start.
func ticks() uint64
