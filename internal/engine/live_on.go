//go:build !hakmem_nolive

package engine

// checkLive says whether live states are kept. The build tag hakmem_nolive turns them off. It is
// there to measure what they cost, and for nothing else.
const checkLive = true

// CheckLive is checkLive for the fast paths, in this package and the public one.
const CheckLive = checkLive
