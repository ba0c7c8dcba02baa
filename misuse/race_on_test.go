//go:build race

package main

// raceEnabled says whether this build has the race detector.
const raceEnabled = true
