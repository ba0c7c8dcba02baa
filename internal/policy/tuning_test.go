package policy

import (
	"errors"
	"testing"

	"github.com/hakmem/hakmem/internal/learn"
)

// TestFirstUse: whichever part is asked for first, both are read.
func TestFirstUse(t *testing.T) {
	before, errs := Current(), Errors()
	defer Set(before, errs)
	for _, use := range []func(){func() { Now() }, func() { AtStart() }} {
		mu.Lock()
		fixed.Store(nil)
		tuning.Store(nil)
		mu.Unlock()
		use()
		if fixed.Load() == nil || tuning.Load() == nil {
			t.Error("one part was not read")
		}
	}
}

// TestSetTuning: another tuning is in force at once, the fixed part is not touched, and a value out
// of range changes nothing.
func TestSetTuning(t *testing.T) {
	before, errs := Current(), Errors()
	defer Set(before, errs)
	fixedBefore, old := AtStart(), Now()
	tuned := *old
	tuned.Refill, tuned.DecayMs, tuned.Keep = 5, 77, KeepAlways
	if err := SetTuning(&tuned); err != nil {
		t.Fatal(err)
	}
	if *Now() != tuned || AtStart() != fixedBefore || old.Refill != before.Refill {
		t.Errorf("%+v in force, want %+v", *Now(), tuned)
	}
	tuned.Refill = 6 // the caller's copy
	if got := Now().Refill; got != 5 {
		t.Errorf("Refill follows the caller's struct: %d", got)
	}
	for name, spoil := range map[string]func(*Tuning){
		"HAKMEM_MAG_BLOCKS":     func(t *Tuning) { t.MagBlocks = MaxMagBlocks + 1 },
		"HAKMEM_MAG_MID_BLOCKS": func(t *Tuning) { t.MagMidBlocks = 1 },
		"HAKMEM_SHARED_SLOTS":   func(t *Tuning) { t.SharedSlots = MaxSharedSlots + 1 },
		"HAKMEM_KEEP":           func(t *Tuning) { t.Keep = KeepFor + 3_600_001 },
		"HAKMEM_MEMORY_PRICE":   func(t *Tuning) { t.MemoryPrice = 0 },
		"HAKMEM_DECAY_MS":       func(t *Tuning) { t.DecayMs = 0 },
		"HAKMEM_COMMIT_MAX":     func(t *Tuning) { t.CommitMin, t.CommitMax = 8<<20, 4<<20 },
	} {
		bad := *old
		spoil(&bad)
		var s *SettingError
		if err := SetTuning(&bad); !errors.As(err, &s) || s.Name != name {
			t.Errorf("SetTuning with a bad %s = %v", name, err)
		}
	}
	if got := Now().Refill; got != 5 {
		t.Errorf("a refused tuning changed Refill to %d", got)
	}
}

// TestModesOfTheLearner: what the two modes that are about learning set.
func TestModesOfTheLearner(t *testing.T) {
	balanced, _ := Build(lookup(nil))
	for mode, change := range map[string]func(*Tuning){
		"learning": func(s *Tuning) { s.Evo = learn.EvolutionAuto },
		"research": func(s *Tuning) { s.Elo = learn.DecideReal },
	} {
		s, errs := Build(lookup(map[string]string{"HAKMEM_MODE": mode}))
		want := balanced.Tuning
		change(&want)
		if len(errs) != 0 || s.Mode != mode || s.Tuning != want {
			t.Errorf("%s: %+v, errors %v", mode, *s, errs)
		}
	}
}
