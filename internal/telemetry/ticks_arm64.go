package telemetry

// Unit names what the numbers of this package count: the system counter, at 24 MHz to 1 GHz. A tick
// may be 40 ns, and the shortest phases may take 0 ticks.
const Unit = "CNTVCT ticks"

const knownHz = 0 // measured

// ticks reads the virtual counter, which programs may read on every supported system. It is never
// 0, which is the moment of the machine's start.
func ticks() uint64
