//go:build !linux

package osmem

// discardMany is discard for the first range of r, because these systems take one range at a time.
func discardMany(r []Range) (n int, err error) {
	return 1, aligned(r[0].Addr, r[0].Size, discard)
}

func likelyReason(err error) string { return "" } // nothing is known of these systems
