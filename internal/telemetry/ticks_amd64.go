package telemetry

// Unit names what the numbers of this package count. The counter runs at a constant rate of its
// own, not with the core's clock. Reading it does not wait for the instructions before it, so a
// time is accurate to some ten ticks.
const Unit = "TSC cycles"

const knownHz = 0 // measured

// ticks reads the time stamp counter. It is never 0, which is the moment of the processor's reset.
func ticks() uint64
