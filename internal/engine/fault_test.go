package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestSurvivedOnce: errors with the same text are one error, so that a storm of one kind leaves
// room for another.
func TestSurvivedOnce(t *testing.T) {
	forgetSurvived(t)
	first := errors.New("first")
	for range 1000 {
		survive(fmt.Errorf("again: %w", first))
	}
	other := errors.New("other")
	survive(other)
	if got := Survived(); len(got) != 2 || !errors.Is(got[0], first) || !slices.Contains(got, other) {
		t.Errorf("survived: %v", got)
	}
	for i := range 100 {
		survive(fmt.Errorf("error %d", i))
	}
	if got := Survived(); len(got) != maxSurvived || got[1] != other {
		t.Errorf("%d errors survived, want %d with the first ones first: %v", len(got), maxSurvived, got)
	}
}
