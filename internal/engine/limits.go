package engine

import (
	"fmt"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/policy"
)

// The memory limit, as programs set it. The limits are in usage.go, under region.mu.

// SwapMemoryLimit limits the memory that is counted (usage.go) to hard bytes, and asks the scavenger
// to keep it below soft. 0 is no limit. It returns what MemoryLimit would have returned until then, also
// with an error.
func SwapMemoryLimit(soft, hard uint64) (oldSoft, oldHard uint64, err error) {
	if err := badLimits(soft, hard); err != nil {
		oldSoft, oldHard = MemoryLimit()
		return oldSoft, oldHard, err
	}
	region.mu.Lock()
	oldSoft, oldHard = limitsNow()
	setMemoryLimit(soft, hard)
	limitSet = true
	region.mu.Unlock()
	kickPressed()
	return oldSoft, oldHard, nil
}

// badLimits says what is wrong with limits, if anything is.
func badLimits(soft, hard uint64) error {
	if hard != 0 && soft > hard {
		return fmt.Errorf("hakmem: memory limit: soft limit of %d bytes above the hard limit of %d: lower the one or raise the other", soft, hard)
	}
	if hard != 0 && hard < superSize {
		return fmt.Errorf("hakmem: memory limit: hard limit of %d bytes: use 0 for none, or at least %d", hard, uint64(superSize))
	}
	return nil
}

// MemoryLimit returns the limits in force, in bytes. Before the first allocation it returns those
// that will be in force with it.
func MemoryLimit() (soft, hard uint64) {
	region.mu.Lock()
	defer region.mu.Unlock()
	return limitsNow()
}

// limitsNow is MemoryLimit. Under region.mu.
func limitsNow() (soft, hard uint64) {
	check.MustHold(&region.mu, "limitsNow")
	if pol := policy.AtStart(); !limitSet && !region.ready.Load() {
		return uint64(pol.MemorySoft), uint64(pol.MemoryHard)
	}
	return uint64(memoryLimit.soft.Load()), uint64(memoryLimit.hard.Load())
}
