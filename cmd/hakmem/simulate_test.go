package main

import (
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/learn/sim"
)

// TestSimulatedTwice: two simulations that differ are an error.
func TestSimulatedTwice(t *testing.T) {
	seed := uint64(0)
	held := func(price float64) (*sim.Table, error) {
		seed++
		return sim.Evaluate([]string{"saw1"}, []uint64{seed}, 10e9, price)[0], nil
	}
	if _, err := simulateAll(t.Context(), []float64{0.5}, 1, held, nil); err == nil || !strings.Contains(err.Error(), "differ") {
		t.Error(err)
	}
}
