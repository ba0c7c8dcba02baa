//go:build hakmem_nolive

package engine

// checkLive is off: see live_on.go.
const checkLive = false

// CheckLive is off: a free takes the class from the page's metadata, and an invalid free of a
// block's address is not noticed.
const CheckLive = checkLive
