//go:build race && hakmem_check

package check

const raceEnabled = true
