//go:build !hakmem_nolive

package engine

// checkLive says that live states are kept. The tag hakmem_nolive turns them
// off, to measure what they cost; it is not for use.
const checkLive = true

// CheckLive is checkLive for the fast paths.
const CheckLive = checkLive
