//go:build race

package main

// raceEnabled says that the race detector is in this build.
const raceEnabled = true
