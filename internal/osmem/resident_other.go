//go:build !linux

package osmem

func resident(addr, size uintptr, vec []byte) (int, error) { return 0, ErrNotSupported }

func hugePages(addr, size uintptr, want bool) error { return nil }

func hugePageMode() string { return "" }

func residentBytes() (uint64, bool) { return 0, false }
