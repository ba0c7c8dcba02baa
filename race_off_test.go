//go:build !race

package hakmem_test

// raceEnabled says that the race detector is in this build.
const raceEnabled = false
