//go:build !race

package hakmemsqlite_test

const raceDetector = false
