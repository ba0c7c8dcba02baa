// Package proof holds the tests that need modules which the core module must not require, or that
// test all of it at once: a state machine that compares every public operation with a model
// (model_test.go, actions_test.go), driven by random draws and by fuzzed bytes, with every preset
// of settings (presets_test.go), and goroutines that use everything at the same time
// (stress_test.go). It has no code of its own.
//
// "go test" runs a little of each. More:
//
//	go test -run TestModel ./proof -rapid.checks=100000
//	go test -run TestPresets ./proof -v -timeout 1h -rapid.checks=2000 -rapid.steps=50
//	go run ./proof/fuzz -minutes 5 -run FuzzAll
//	HAKMEM_PROOF_OPS=100000000 go test -run TestStress -v ./proof
//
// Any of them may have settings in its environment (for example HAKMEM_HARDEN=1); TestPresets sets
// its own.
package proof
