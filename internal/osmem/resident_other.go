//go:build !linux

package osmem

import "github.com/hakmem/hakmem/internal/mem"

func resident(addr mem.Addr, size mem.Bytes, vec []byte) (int, error) { return 0, ErrNotSupported }

func hugePages(addr mem.Addr, size mem.Bytes, want bool) error { return nil }

func hugePageMode() string { return "" }

func hugePageSize() mem.Bytes { return 0 }

func residentBytes() (uint64, bool) { return 0, false }
