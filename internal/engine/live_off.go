//go:build hakmem_nolive

package engine

const checkLive = false

// CheckLive is off: a free takes the class from the page's metadata, and no
// invalid free of a block's address is noticed.
const CheckLive = checkLive
