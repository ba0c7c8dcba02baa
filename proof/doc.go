// Package proof holds the tests that need more than the core module may require,
// or that look at all of it at once: a state machine of every public operation
// against a model (model_test.go, actions_test.go), driven by random draws and by
// fuzzed bytes, under every preset of gates (presets_test.go), and goroutines that
// use it all at the same time (stress_test.go). It has no code of its own.
//
// "go test" runs a little of each. More:
//
//	go test -run TestModel ./proof -rapid.checks=100000
//	go test -run TestPresets ./proof -v -timeout 1h -rapid.checks=2000 -rapid.steps=50
//	go run ./proof/fuzz -minutes 5 -run FuzzAll
//	HAKMEM_PROOF_OPS=100000000 go test -run TestStress -v ./proof
//
// Any of them may have gates in its environment (HAKMEM_HARDEN=1, say); TestPresets
// sets them itself.
package proof
