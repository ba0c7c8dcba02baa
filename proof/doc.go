// Package proof holds the tests that need more than the core module may require,
// or that look at all of it at once: a state machine of every public operation
// against a model (model_test.go), driven by random draws and by fuzzed bytes,
// under every preset of gates (presets_test.go), and goroutines that use it all
// at the same time (stress_test.go). It has no code of its own.
package proof
