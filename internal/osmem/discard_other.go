//go:build !linux

package osmem

// discardMany is discard for the first range of r, because these systems take one range at a time.
func discardMany(r []Range) (n int, err error) {
	if err := misaligned(r[0].Addr); err != nil {
		return 1, err
	}
	return 1, discard(r[0].Addr, r[0].Size)
}

func likelyReason(err error) string { return "" } // nothing is known of these systems
