//go:build !race

package proof

// raceEnabled says that the race detector is in this build.
const raceEnabled = false
