//go:build hakmem_nolearn

package engine

// learning is off: see learn_on.go.
const learning = false
