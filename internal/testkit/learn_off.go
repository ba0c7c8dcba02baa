//go:build hakmem_nolearn

package testkit

// Learning says whether this build has the learner.
const Learning = false
